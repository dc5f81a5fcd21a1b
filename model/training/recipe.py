"""A whole training as one TOML file, and the strict reading of it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.config import SledConfig
from sled_tts.model.errors import ConfigError
from sled_tts.model.training.codec_loop import CodecTraining
from sled_tts.model.training.loop import SledTraining
from sled_tts.model.training.polish import Polish


@dataclass(frozen=True)
class DataRecipe:
    """Recordings (`manifests`, audio paths relative to `root`), or `texts` for flite to read, one sentence a line.

    `skip_bad`: go on without the cuts that cannot be used, after saying which.
    """

    manifests: tuple[str, ...] = ()
    root: str | None = None
    texts: str | None = None
    longest_s: float = 35.0
    skip_bad: bool = False
    lock_pitch: bool = True
    align: bool = True
    limit: int | None = None


@dataclass(frozen=True)
class CodecRecipe:
    """A codec to train, or `source`: a folder with one that exists, whose shape `config` must be.

    `quantised`: the network learns the codes' summed embeddings, as the published ones do, not the encoder's output.
    """

    source: str | None = None
    quantised: bool = False
    config: CodecConfig = field(default_factory=CodecConfig)
    training: CodecTraining = field(default_factory=CodecTraining)
    polish: Polish | None = None


@dataclass(frozen=True)
class TokenizerRecipe:
    """A byte-level BPE of `vocab_size` entries trained on the corpus (260 is bytes only), or one in `source`."""

    vocab_size: int = 260
    source: str | None = None


@dataclass(frozen=True)
class VoiceRecipe:
    """What the finished folder says of itself. `voices`: speakers whose speech becomes a built-in voice."""

    name: str = "sled-tts"
    max_segment_chars: int | None = 80
    max_frames_per_token: float = 10.0
    voices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """`start`: a checkpoint folder to fine-tune from, such as the offline one of the paper's streaming recipe."""

    data: DataRecipe
    sled: SledConfig
    training: SledTraining
    codec: CodecRecipe = field(default_factory=CodecRecipe)
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    voice: VoiceRecipe = field(default_factory=VoiceRecipe)
    start: str | None = None


def read_recipe(path: Path) -> Recipe:
    """Raises ConfigError that names the file and the key: one that does not exist, is missing or has a wrong value."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}", param="config") from None
    _check_keys(Recipe, data, path.name, "")
    try:
        return TypeAdapter(Recipe).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path.name}: {where}: {first['msg']}", param=where) from None


def _check_keys(kind: Any, data: Mapping[str, Any], file: str, prefix: str) -> None:
    """Unknown keys, in every table."""
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(data) - known)
    if unknown:
        where = f"{prefix}{unknown[0]}"
        raise ConfigError(f"{file}: unknown key {where}; known here: {', '.join(sorted(known))}", param=where)
    hints = get_type_hints(kind)
    for name, value in data.items():
        parts = [hints[name], *getattr(hints[name], "__args__", ())]
        inner = next((part for part in parts if is_dataclass(part)), None)
        if inner is not None and isinstance(value, Mapping):
            _check_keys(inner, value, file, f"{prefix}{name}.")
