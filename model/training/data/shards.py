"""A corpus as shards: files of bounded size with the codes or latents of some utterances, and an index of them.

A folder holds `index.json`, `shard-00000.safetensors` and on, and `codebooks.safetensors` when the shards are codes. A
shard has `codes [F, n_q]` (uint8 or uint16) or `latents [F, D]` (float16), `phones [F]` (uint8, 255 unknown) where they
were aligned, and the utterances as JSON in its header. The index says of each its bytes, checksum and counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.training.resume import write_atomically
from sled_tts.model.training.synthetic import CorpusItem

FORMAT = 1
INDEX, CODEBOOKS = "index.json", "codebooks.safetensors"
STORES = ("codes", "latents")
_UNKNOWN = 255


@dataclass(frozen=True)
class ShardEntry:
    """One shard: where it is, what it must hash to and what is in it. `sums [D]` and `squares` are of its latents;
    `faults`: cuts that are not in it though they were meant to be, `kind -> [count, examples]`."""

    file: str
    bytes: int
    sha256: str
    utterances: int
    frames: int
    phones: list[str]
    sums: list[float]
    squares: float
    faults: dict[str, list[Any]]

    def verify(self, folder: Path) -> None:
        """Raises ModelError when the file is missing, cut short or changed."""
        path = folder / self.file
        if not path.is_file():
            raise ModelError(f"{path} is missing; encode again, or bring it here", param="shards")
        size = path.stat().st_size
        if size != self.bytes:
            raise ModelError(f"{path} has {size} bytes, the index says {self.bytes}; encode again", param="shards")
        if file_sha256(path) != self.sha256:
            raise ModelError(f"{path} is damaged (its checksum is another); encode again", param="shards")


@dataclass(frozen=True)
class ShardIndex:
    """All shards of a folder. `codec` is the configuration, `codec_sha256` the encoder and codebooks they are from."""

    store: str
    codec: dict[str, Any]
    codec_sha256: str
    settings: dict[str, Any]
    shards: tuple[ShardEntry, ...]

    @property
    def utterances(self) -> int:
        return sum(entry.utterances for entry in self.shards)

    @property
    def frames(self) -> int:
        return sum(entry.frames for entry in self.shards)

    @property
    def hours(self) -> float:
        return self.frames / CodecConfig.from_dict(self.codec).frame_rate / 3600

    @property
    def mean(self) -> np.ndarray:
        """Mean latent `[D]`, float64."""
        total: np.ndarray = np.sum([entry.sums for entry in self.shards], axis=0)
        return total / self.frames

    @property
    def std(self) -> float:
        """Standard deviation of all elements from the mean latent."""
        mean = self.mean
        spread = sum(entry.squares for entry in self.shards) / self.frames - float(mean @ mean)
        return float(np.sqrt(max(spread, 1e-12) / len(mean)))

    @property
    def phone_names(self) -> list[str]:
        return sorted({name for entry in self.shards for name in entry.phones})

    def save(self, folder: Path) -> None:
        write_json(folder / INDEX, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> ShardIndex:
        """Raises ModelError when there is none, or one that cannot be read."""
        path = folder / INDEX
        if not path.is_file():
            raise ModelError(f"{folder} has no {INDEX}: not a shard folder, or not encoded to the end", param="shards")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("format") != FORMAT:
                raise ValueError("its format is another")
            data["shards"] = tuple(ShardEntry(**entry) for entry in data["shards"])
            return cls(**data)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} cannot be read: {error}", param="shards") from error


@dataclass(frozen=True)
class Shard:
    """The content of one file; item offsets are within `frames` (codes `[F, n_q]` or latents `[F, D]`)."""

    items: list[CorpusItem]
    frames: np.ndarray


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def codec_sha256(codec: Codec) -> str:
    """Of what decides the latents: configuration, encoder and codebooks, not the decoder."""
    digest = hashlib.sha256(repr(codec.config).encode())
    parts: list[Tensor] = [*codec.encoder.state_dict().values(), codec.quantizer.codebooks]
    for tensor in parts:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"), shared=True)


def write_shard(path: Path, store: str, items: Sequence[CorpusItem], frames: np.ndarray) -> list[str]:
    """Write one shard atomically; returns the phones in it. Raises ModelError when it cannot be written."""
    names = sorted({phone for item in items for phone in item.phones})
    if len(names) >= _UNKNOWN:
        raise ModelError(f"{path.name}: {len(names)} different phones, at most {_UNKNOWN - 1} can be kept")
    number = {name: index for index, name in enumerate(names)}
    # safetensors writes the memory as it lies.
    tensors = {store: np.ascontiguousarray(frames)}
    if names:
        labels = [[number[p] for p in item.phones] or [_UNKNOWN] * item.frames for item in items]
        tensors["phones"] = np.concatenate([np.asarray(row, dtype=np.uint8) for row in labels])
    utterances = [[item.text, item.frames, item.speaker] for item in items]
    # One key: the order of several is not the same in every process.
    header = {"corpus": json.dumps({"phones": names, "utterances": utterances}, ensure_ascii=False)}
    write_atomically(path, lambda partial: save_file(tensors, partial, header))
    return names


def read_shard(path: Path, store: str) -> Shard:
    """Raises ModelError when it cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads(file.metadata()["corpus"])
            frames = file.get_tensor(store)
            phones = file.get_tensor("phones") if header["phones"] else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is no shard of {store}: {error}", param="shards") from error
    items = []
    for item in _utterances(header):
        labels: list[str] = []
        if phones is not None:
            own = phones[item.offset : item.offset + item.frames]
            labels = [] if own[0] == _UNKNOWN else [header["phones"][index] for index in own]
        items.append(CorpusItem(item.index, item.text, item.offset, item.frames, labels, item.speaker))
    return Shard(items, frames)


def read_utterances(path: Path) -> Iterator[CorpusItem]:
    """The utterances of a shard as `read_shard` gives them, but without phones and without reading its tensors. Raises
    ModelError when it cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads(file.metadata()["corpus"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is no shard: {error}", param="shards") from error
    return _utterances(header)


def _utterances(header: Mapping[str, Any]) -> Iterator[CorpusItem]:
    offset = 0
    for index, (text, frames, speaker) in enumerate(header["utterances"]):
        yield CorpusItem(index, text, offset, frames, [], speaker)
        offset += frames
