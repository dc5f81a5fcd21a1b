"""Cartesia's messages: what its clients send, over WebSocket and HTTP, and the shapes they read."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sled_tts.server.audio.formats import IN_WAV, AudioFormat, Codec
from sled_tts.server.engine.request import WordTiming
from sled_tts.server.errors import Reply
from sled_tts.server.routes.replies import from_validation

# What `speed` of earlier API versions means; later ones give a number in `generation_config`.
_PACES: dict[str, float] = {"slow": 0.8, "normal": 1.0, "fast": 1.25}
_RAW: dict[str, Codec] = {
    "pcm_s16le": Codec.PCM_S16LE,
    "pcm_f32le": Codec.PCM_F32LE,
    "pcm_mulaw": Codec.MULAW,
    "pcm_alaw": Codec.ALAW,
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class OutputFormat(_Part):
    """`bit_rate` in bit/s, for mp3 only; `encoding` for the other containers."""

    container: Literal["raw", "wav", "mp3"]
    encoding: Literal["pcm_s16le", "pcm_f32le", "pcm_mulaw", "pcm_alaw"] = "pcm_s16le"
    sample_rate: int = Field(ge=8_000, le=48_000)
    bit_rate: int | None = None

    def audio(self) -> AudioFormat:
        """Raises InvalidParameterError."""
        if self.container == "mp3":
            return AudioFormat(Codec.MP3, self.sample_rate, self.bit_rate)
        raw = _RAW[self.encoding]
        return AudioFormat(raw if self.container == "raw" else IN_WAV[raw], self.sample_rate)


class VoiceSpecifier(_Part):
    id: str


class GenerationConfig(_Part):
    speed: float | None = Field(None, ge=0.25, le=4.0)


class Generate(_Part):
    """A request to speak. `seed` and `cfg_scale` are ours; unknown fields have no effect."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model_id: str
    transcript: str
    voice: str | VoiceSpecifier
    output_format: OutputFormat
    context_id: str | None = Field(None, min_length=1, max_length=128)
    more: bool | None = Field(False, alias="continue")
    flush: bool | None = False
    add_timestamps: bool | None = False
    max_buffer_delay_ms: int | None = Field(None, ge=0, le=5_000)
    generation_config: GenerationConfig | None = None
    speed: Literal["slow", "normal", "fast"] | float | None = None
    normalization: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    cfg_scale: float | None = Field(None, ge=0.0, le=10.0)

    @property
    def voice_id(self) -> str:
        return self.voice if isinstance(self.voice, str) else self.voice.id

    @property
    def normalize(self) -> bool:
        """Whether numbers, dates and the like are written out; other values pin a locale, and there is one here."""
        return self.normalization != "off"

    @property
    def pace(self) -> float:
        """Speech rate, 1.0 for normal."""
        if self.generation_config is not None and self.generation_config.speed is not None:
            return self.generation_config.speed
        if isinstance(self.speed, str):
            return _PACES[self.speed]
        return 1.0 if self.speed is None else self.speed


def parse_generate(message: dict[str, Any], first: Generate | None = None) -> Generate:
    """Of `first`, the request that opened the context, everything holds that is decided once.

    Raises an error that names the field and its limit.
    """
    if first is not None:
        decided = {"model_id": first.model_id, "voice": first.voice_id, "output_format": first.output_format}
        message = message | decided
    try:
        return Generate.model_validate(message)
    except ValidationError as error:
        raise from_validation(error.errors()) from None


def context_id_of(message: dict[str, Any]) -> str | None:
    """The context a message is about, for answers to messages that are wrong otherwise."""
    context_id = message.get("context_id")
    return context_id if isinstance(context_id, str) and 0 < len(context_id) <= 128 else None


def _reply(kind: str, context_id: str | None, *, done: bool = False, status: int = 206) -> dict[str, Any]:
    return {"type": kind, "done": done, "status_code": status, "context_id": context_id}


def chunk(context_id: str | None, data: bytes, step_ms: float, flush_id: int) -> dict[str, Any]:
    """`step_ms`: how long the server took since the last chunk, or since the first text."""
    body = {"data": base64.b64encode(data).decode(), "step_time": round(step_ms, 3), "flush_id": flush_id}
    return _reply("chunk", context_id) | body


def timestamps(context_id: str | None, words: Sequence[WordTiming], pace: float) -> dict[str, Any]:
    """Times in seconds from the context's first sample, at the pace it is heard with."""
    times = {
        "words": [word.text for word in words],
        "start": [round(word.start_s / pace, 4) for word in words],
        "end": [round(word.end_s / pace, 4) for word in words],
    }
    return _reply("timestamps", context_id) | {"word_timestamps": times}


def flush_done(context_id: str, flush_id: int) -> dict[str, Any]:
    return _reply("flush_done", context_id) | {"flush_done": True, "flush_id": flush_id}


def done(context_id: str | None) -> dict[str, Any]:
    return _reply("done", context_id, done=True)


def error(context_id: str | None, reply: Reply) -> dict[str, Any]:
    body = {
        "title": reply.code.replace("_", " ").capitalize(),
        "message": reply.message,
        "error_code": reply.code,
        "error": reply.message,
        "param": reply.param,
        "retry_after_s": reply.retry_after_s,
    }
    return _reply("error", context_id, done=True, status=reply.http_status) | body
