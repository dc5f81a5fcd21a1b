"""What the scheduler asks of a device, as plain data: the seam between pure Python and torch.

A column of a stream's input is one integer: a token id (>= 0), the latent the stream sampled last
(`LAST_LATENT`), or frame k of its voice prompt (`prompt_column(k)`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from sled_tts.model.interleave import prompt_block
from sled_tts.server.engine.request import Float32, Prompt, SynthesisRequest

LAST_LATENT = -1


def prompt_column(frame: int) -> int:
    """The column that feeds frame `frame` of the voice prompt."""
    return -2 - frame


@dataclass(frozen=True)
class RunnerInfo:
    """Fixed facts about a loaded model. Times follow from `hop` samples a frame at `sampling_rate` Hz.

    `positions` is what one cache row holds; `first_chunk_frames` the latents an exact first decode needs;
    `stream_bytes` the memory of a slot; `n`, `m` the checkpoint's own pacing, None when it is offline.
    """

    slots: int
    positions: int
    sampling_rate: int
    hop: int
    first_chunk_frames: int
    eos_id: int
    vocab_size: int
    latent_dim: int
    n: int | None
    m: int | None
    stream_bytes: int = 0

    @property
    def frame_rate(self) -> float:
        return self.sampling_rate / self.hop


@dataclass(frozen=True)
class RowWork:
    """One stream's part of a step: columns of the conditional row and of the unconditional one.

    `unconditional` is empty when the request is not guided; otherwise neither is empty.
    """

    slot: int
    conditional: tuple[int, ...]
    unconditional: tuple[int, ...]


@dataclass(frozen=True)
class PromptWork:
    """A slot's prompt block at a pacing of `n`:`m`."""

    slot: int
    prompt: Prompt
    n: int
    m: int
    eos_id: int

    @classmethod
    def of(cls, slot: int, request: SynthesisRequest, info: RunnerInfo) -> PromptWork | None:
        """None when the request has no block. Raises ValueError when it has one and the checkpoint does not stream."""
        if request.prompt is None or not request.prompt.ids:
            return None
        n, m = request.n or info.n, request.m or info.m
        if n is None or m is None:
            raise ValueError("a prompt with ids needs a streaming checkpoint")
        return cls(slot, request.prompt, n, m, info.eos_id)

    @property
    def key(self) -> str:
        """The same for blocks that leave the same in the caches."""
        return f"{self.prompt.key} {self.n}:{self.m}"

    def row(self) -> RowWork:
        """All of the block but the guidance row's last frame, which belongs to the first step."""
        prompt = self.prompt
        block = prompt_block(len(prompt.ids), prompt.frames, self.n, self.m)
        told = tuple(prompt.ids[index] if is_text else prompt_column(index) for is_text, index in block)
        return RowWork(self.slot, told, (self.eos_id, *(prompt_column(frame) for frame in range(prompt.frames - 1))))


@dataclass(frozen=True)
class DecodeWork:
    """Decode speech frames `[start, start + count)` of a slot; the prompt's frames come first. After `final`, which may
    have none, the slot says no more: all that was held back is due."""

    slot: int
    start: int
    count: int
    final: bool


class RowOutcome(Enum):
    """What a step gave one stream: a latent, a latent with the stop head fired, or numbers that are none."""

    FRAME = auto()
    STOP = auto()
    INVALID = auto()


# By what a device computes: 1 when the stop head fired, and 2 more when the latent is not finite.
OUTCOMES = (RowOutcome.FRAME, RowOutcome.STOP, RowOutcome.INVALID, RowOutcome.INVALID)


class StepRunner(Protocol):
    """A device that steps many streams at once. Called from the engine thread only."""

    @property
    def info(self) -> RunnerInfo: ...

    def open(self, slot: int, request: SynthesisRequest) -> int:
        """Give a free slot to a request: empty cache rows, its noise stream, its prompt. Returns how many frames its
        sound will be behind what is decoded: its melody's.

        A prompt block (`Prompt.ids`) is read and decoded here, or copied from the last time it was, except for its
        last frame in the unconditional row.
        """

    def step(self, rows: Sequence[RowWork]) -> list[RowOutcome]:
        """Feed every row and sample one latent for each; slots are distinct.

        A latent becomes the slot's next speech frame; the engine decides whether it is spoken.
        """

    def decode(self, work: Sequence[DecodeWork]) -> list[Float32]:
        """PCM `[count * hop]` for each piece of work; slots are distinct. With a melody it is some frames behind."""

    def latents(self, slot: int, start: int, count: int) -> Float32:
        """Speech frames `[start, start + count)` of a slot as codec latents `[count, D]`, the prompt's first."""

    def looked(self, slot: int) -> Float32 | None:
        """Where in the request's tokens the step that wrote the slot's last frame looked: weights `[tokens read]` that
        sum to 1. None unless the request follows its text and the network is known to (`ModelExtras.alignment`)."""

    def close(self, slot: int) -> None:
        """Take a slot back."""
