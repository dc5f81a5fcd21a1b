"""Settings of the server: environment variables with the prefix SLED_TTS_, overridden by command-line options."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sled_tts.server.errors import InvalidParameterError

PREFIX = "SLED_TTS_"
# Variables with our prefix that belong to clients, to the kernels (`model.native`) or to the test suite.
_OTHERS = frozenset({"SLED_TTS_URL", "SLED_TTS_CLIENT_KEY", "SLED_TTS_SHARED", "SLED_TTS_NATIVE"})

Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Everything an operator can change. Sizes in bytes, times in seconds unless the name says otherwise.

    Lists (`model`, `api_key`, `cors_origin`) are comma-separated in the environment.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    model: Names = ("built-in",)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    kv_precision: Literal["auto", "fp8"] = "auto"
    kernels: Literal["auto", "triton", "torch"] = "auto"
    melody: bool = True
    slots: int = Field(default=16, ge=1, le=4096)
    kv_memory_bytes: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1, le=1024)
    api_key: Names = ()
    cors_origin: Names = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False
    max_text_chars: int = Field(default=4096, ge=1)
    max_stream_chars: int = Field(default=262_144, ge=1)
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    max_reference_bytes: int = Field(default=10 * 2**20, ge=1024)
    max_reference_s: float = Field(default=20.0, gt=0)
    text_idle_flush_s: float | None = Field(default=None, gt=0)
    text_idle_close_s: float | None = Field(default=None, gt=0)
    sentence_pause_s: float = Field(default=0.2, ge=0, le=5)
    unsupported_text: Literal["error", "warn", "pass"] = "warn"
    voices_dir: Path | None = None
    voice_transcriber: Literal["none", "pocketsphinx"] = "none"
    ws_max_message_bytes: int = Field(default=64 * 1024, ge=1024)
    ws_idle_timeout_s: float = Field(default=120.0, gt=0)
    ws_unused_timeout_s: float = Field(default=3600.0, gt=0)
    ws_ping_s: float = Field(default=20.0, gt=0)
    ws_send_timeout_s: float = Field(default=60.0, gt=0)
    ws_max_contexts: int = Field(default=16, ge=1, le=1024)
    accept_unknown_voices: bool = False
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    wyoming_port: int | None = Field(default=None, ge=0, le=65535)
    shutdown_timeout_s: int = Field(default=10, ge=0)

    @field_validator("model", "api_key", "cors_origin", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError(f"must be auto, cpu, cuda or cuda:N, got {value!r}")
        return value

    @field_validator("api_key")
    @classmethod
    def _no_empty_key(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # What `--api-key "$KEY"` gives where KEY is not set.
        if not all(value):
            raise ValueError("a key must not be empty")
        return value

    @field_validator("model")
    @classmethod
    def _some_model(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one model is needed")
        return value


def load_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment, with `overrides` (None means not given) on top.

    Raises InvalidParameterError for a variable with our prefix that is no setting: a misspelt
    SLED_TTS_API_KEY must not silently leave a server open. pydantic.ValidationError for bad values.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | _OTHERS
    for name in sorted(environ if environ is not None else os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise InvalidParameterError(f"unknown environment variable {name}", param=name)
    return Settings(**{name: value for name, value in overrides.items() if value is not None})
