"""Training on shards: some at a time, each process those of its own lanes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.tokenizer import Tokenizer
from sled_tts.model.training.batches import Corpus, LatentFrames, lasting
from sled_tts.model.training.data.shards import CODEBOOKS, ShardIndex, read_shard, read_utterances
from sled_tts.model.training.synthetic import CorpusItem


@dataclass(frozen=True)
class CodeFrames:
    """Codes `[F, n_q]` that read as latents `[F, D]`: sums of their embeddings in `books [n_q, size, D]`."""

    codes: np.ndarray
    books: np.ndarray

    def __getitem__(self, span: slice) -> np.ndarray:
        codes = self.codes[span]
        total = np.zeros((len(codes), self.books.shape[2]), dtype=np.float32)
        for stage, book in enumerate(self.books):
            total += book[codes[:, stage]]
        return total


@dataclass(frozen=True)
class ShardCorpus:
    """A shard folder to train on (a `TrainingData`).

    Lane l of L reads the shards whose number is l modulo L, in an order of its own each epoch, `window` of them in
    memory at a time; only those need to be on the machine that trains on the lane. `n`, `m`, `most`: which utterances
    can be trained on (see `lasting`).
    """

    folder: Path
    index: ShardIndex
    tokenizer: Tokenizer
    n: int | None = None
    m: int | None = None
    most: int | None = None
    window_shards: int = 4
    seed: int = 0

    @classmethod
    def open(
        cls,
        folder: Path,
        tokenizer: Tokenizer,
        n: int | None,
        m: int | None,
        *,
        most: int | None = None,
        window_shards: int = 4,
        seed: int = 0,
    ) -> ShardCorpus:
        """Raises ModelError when it is no shard folder that was encoded to the end."""
        if window_shards < 1:
            raise ModelError(f"window_shards must be at least 1, got {window_shards}", param="data.window_shards")
        return cls(folder, ShardIndex.load(folder), tokenizer, n, m, most, window_shards, seed)

    @cached_property
    def mean(self) -> Tensor:
        return torch.from_numpy(self.index.mean).float()

    @cached_property
    def std(self) -> float:
        return self.index.std

    @cached_property
    def phone_names(self) -> list[str]:
        return self.index.phone_names

    @cached_property
    def _books(self) -> np.ndarray:
        path = self.folder / CODEBOOKS
        if not path.is_file():
            raise ModelError(f"{path} is missing", param="shards")
        books: np.ndarray = load_file(path)["codebooks"].numpy()
        return books

    def lanes(self, wanted: int) -> int:
        """As many as wanted. Raises ModelError when there are fewer shards."""
        if len(self.index.shards) < wanted:
            raise ModelError(
                f"{self.folder} has {len(self.index.shards)} shards for {wanted} micro-batches a step (processes times "
                "accumulation); encode into smaller shards",
                param="data.shards",
            )
        return wanted

    def window(self, lane: int, lanes: int, number: int) -> Corpus:
        """Raises ModelError for a shard that is not here or is damaged."""
        own = np.arange(lane, len(self.index.shards), lanes)
        epoch, place = divmod(number, -(-len(own) // self.window_shards))
        order = np.random.default_rng([self.seed, lane, epoch]).permutation(own)
        return self._read(order[place * self.window_shards : (place + 1) * self.window_shards].tolist())

    def windows(self) -> Iterator[Corpus]:
        for number in range(len(self.index.shards)):
            yield self._read([number])

    def describe(self) -> str:
        digest = hashlib.sha256("".join(entry.sha256 for entry in self.index.shards).encode()).hexdigest()
        return f"{self.index.utterances} utterances, {self.index.frames} frames, shards {digest[:16]}"

    def _read(self, numbers: Sequence[int]) -> Corpus:
        frames: list[np.ndarray] = []
        items: list[CorpusItem] = []
        offset = 0
        for number in numbers:
            entry = self.index.shards[number]
            entry.verify(self.folder)
            shard = read_shard(self.folder / entry.file, self.index.store)
            items += [replace(item, index=len(items) + i, offset=offset + item.offset)
                      for i, item in enumerate(shard.items)]  # fmt: skip
            frames.append(shard.frames)
            offset += len(shard.frames)
        latents: LatentFrames = np.concatenate(frames)
        if self.index.store == "codes":
            latents = CodeFrames(np.concatenate(frames), self._books)
        kept = lasting(items, self.tokenizer, self.n, self.m, self.most)
        left_out = len(items) - len(kept)
        return Corpus(kept, latents, self.mean, self.std, self.phone_names, self.tokenizer, left_out)


def shard_utterances(folder: Path) -> Iterator[CorpusItem]:
    """Every utterance of a shard folder, without phones, one shard's at a time in memory."""
    for entry in ShardIndex.load(folder).shards:
        yield from read_utterances(folder / entry.file)
