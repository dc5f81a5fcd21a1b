"""What goes into the engine and what comes out of it. No torch, no asyncio."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.register import Register

Float32 = npt.NDArray[np.float32]


class Mode(StrEnum):
    """Which of the two SLED orders an utterance uses (arXiv 2505.13181, section 3)."""

    OFFLINE = "offline"
    STREAMING = "streaming"


class FinishReason(StrEnum):
    """Why an utterance ended. Only `stop` means that the model said it was done."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Prompt:
    """A voice prompt as codec latents `[S, D]`, fp32, not normalised.

    With `ids` (`<s>` first, no `</s>`; streaming only) it is a block in front that does not depend on the text, whose
    tokens then lack `<s>`; without, its transcript is the beginning of the request's tokens. `once`: nobody else will
    use it, so it is not worth keeping.
    """

    latents: Float32
    ids: tuple[int, ...] = ()
    once: bool = False

    def __post_init__(self) -> None:
        if self.latents.ndim != 2 or self.latents.shape[0] == 0 or self.latents.dtype != np.float32:
            raise ValueError(
                f"prompt latents must be float32 [S, D] with S > 0, got {self.latents.dtype} {self.latents.shape}"
            )

    @property
    def frames(self) -> int:
        return int(self.latents.shape[0])

    @property
    def key(self) -> str:
        """The same for equal prompts."""
        content = hashlib.blake2b(self.latents.tobytes(), digest_size=16)
        content.update(repr(self.ids).encode())
        return content.hexdigest()


@dataclass(frozen=True)
class SynthesisRequest:
    """One utterance.

    `token_ids`: the whole text, `<s>` ... `</s>`, when it is known at submission (offline checkpoints need it so);
    None when tokens will arrive through the handle. `n`, `m`: pacing of a streaming checkpoint, None for its own.
    `max_frames`: bound on new frames, None for a bound that follows the text length (see `limits.FrameBudget`).
    `prompt`: reference speech whose transcript opens the text; its samples are not part of the output. `register`:
    where the pitch of a checkpoint with a melody lies; None leaves its speech at one pitch. `dynamics`: of its voice,
    after the melody and instead of the checkpoint's expansion.
    `keep_latents`: `Finished` brings what was said, for another request to go on from. `follow_text`: chunks say where
    the network looked in the tokens, if its checkpoint names the heads that tell.
    """

    request_id: str
    mode: Mode
    seed: int
    cfg_scale: float = 2.0
    max_frames: int | None = None
    prompt: Prompt | None = None
    token_ids: tuple[int, ...] | None = None
    n: int | None = None
    m: int | None = None
    keep_latents: bool = False
    follow_text: bool = False
    register: Register | None = None
    dynamics: Dynamics | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be in [0, 2^63), got {self.seed}")
        if not 0.0 <= self.cfg_scale <= 10.0:
            raise ValueError(f"cfg_scale must be in [0, 10], got {self.cfg_scale}")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f"max_frames must be >= 1, got {self.max_frames}")
        if self.mode is Mode.OFFLINE and self.token_ids is None:
            raise ValueError("an offline request needs its whole token_ids")
        if self.mode is Mode.OFFLINE and self.prompt is not None and self.prompt.ids:
            raise ValueError("an offline prompt's text belongs to token_ids, not to prompt.ids")
        for name, value in (("n", self.n), ("m", self.m)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")

    @property
    def guided(self) -> bool:
        """Whether the unconditional CFG row is needed (at scale 1 the guided state is the conditional one)."""
        return self.cfg_scale != 1.0


@dataclass(frozen=True)
class AudioChunk:
    """Mono fp32 samples in [-1, 1] at the codec's rate, in order.

    `sequence` counts from 0; `frames` is the latents this chunk decodes; `lead_s` is how many seconds of audio, this
    chunk included, the stream is ahead of a listener who started with its first chunk. `looks`: for each frame of a
    request that follows its text, the weights `[T]` of the T tokens read by then; otherwise empty.
    """

    sequence: int
    pcm: Float32 = field(repr=False)
    frames: int
    lead_s: float
    looks: tuple[Float32, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class WordTiming:
    """A word in the audio: seconds from the utterance's first sample, and its characters in the text as it was sent."""

    text: str
    start_s: float
    end_s: float
    begin: int
    end: int


@dataclass(frozen=True)
class WordsSpoken:
    """Words in order, told before or with the chunk that holds their start; only when timings were asked for."""

    words: tuple[WordTiming, ...]


@dataclass(frozen=True)
class TextSkipped:
    """Characters `[begin, end)` of the text as sent are in a script that is not spoken and were left out.

    `sample` is how they start.
    """

    script: str
    sample: str
    begin: int
    end: int


@dataclass(frozen=True)
class TextStarved:
    """The stream has said what it may with the text so far and waits for more; sent once for each wait."""

    frames: int


@dataclass(frozen=True)
class TextFlushed:
    """Everything before the `number`-th flush of the utterance (from 1) has been spoken and delivered."""

    number: int


@dataclass(frozen=True)
class Finished:
    """The one success event. Times in seconds; `ttfa_s` runs from the first token the engine got to the first chunk.

    `rtf` is engine time over audio time, waits for text and for a slow reader excluded. `latents` `[frames, D]` are the
    codec's, not normalised, when the request asked to keep them.
    """

    reason: FinishReason
    frames: int
    samples: int
    ttfa_s: float | None
    rtf: float | None
    latents: Float32 | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Failed:
    """The one failure event; `error` maps through `server.errors.reply_for`."""

    error: Exception


Terminal = Finished | Failed
Event = AudioChunk | WordsSpoken | TextSkipped | TextStarved | TextFlushed | Finished | Failed
