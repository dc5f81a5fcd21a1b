"""What routes ask of the rest of the server, as plain data and protocols. No torch, no asyncio objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from sled_tts.server.engine.request import Event, Float32
from sled_tts.server.engine.stats import EngineStats


@dataclass(frozen=True)
class LoadedModel:
    """One checkpoint in memory. `n`, `m` are its own pacing, None when it is offline; `parameters` a count.

    `precision` is that of the weights; `threads` the CPU threads of a step, `thread_times` what they were chosen by:
    (threads, seconds for a chunk of one stream), empty when they were given. `stream_bytes`: the caches of one stream.
    """

    name: str
    kind: str
    sampling_rate: int
    hop: int
    n: int | None
    m: int | None
    slots: int
    positions: int
    device: str
    parameters: int
    precision: str = "fp32"
    threads: int | None = None
    thread_times: tuple[tuple[int, float], ...] = ()
    stream_bytes: int = 0

    @property
    def frame_rate(self) -> float:
        """Latents a second."""
        return self.sampling_rate / self.hop


@dataclass(frozen=True)
class UtteranceOptions:
    """How to speak. `n`, `m`: pacing of a streaming checkpoint; `model`: a loaded name, None for the preferred one.

    `voice`: what `VoiceStore.resolve` takes; None is the default voice. `timings`: whether `WordsSpoken` is sent.
    `carry`: whether a segment goes on from the end of the one before, on checkpoints trained with prompt blocks; None
    does so for voices that have no prompt of their own, which would open every segment.
    `cfg_scale`: guidance, None for the checkpoint's own, which may be another one for cloned voices.
    `normalize`: whether numbers, marks and abbreviations are put into words; without it text is spoken as it stands.
    """

    seed: int
    cfg_scale: float | None = None
    max_frames: int | None = None
    n: int | None = None
    m: int | None = None
    model: str | None = None
    voice: str | None = None
    timings: bool = False
    carry: bool | None = None
    normalize: bool = True


class VoiceKind(StrEnum):
    """Built-in voices come with a checkpoint; cloned ones were made here from a recording."""

    BUILT_IN = "built-in"
    CLONED = "cloned"


@dataclass(frozen=True)
class Voice:
    """A voice as callers see it. `created_at` in seconds since 1970 (0 for built-in ones)."""

    id: str
    name: str
    kind: VoiceKind
    created_at: int = 0
    description: str = ""


@dataclass(frozen=True)
class NewVoice:
    """What a voice is made of: an encoded recording, what is said in it (None: to be recognised), and who agreed."""

    name: str
    recording: bytes = field(repr=False)
    text: str | None = field(repr=False)
    consent: str
    description: str = ""


class VoiceStore(Protocol):
    """Every voice of every loaded model. Methods read small files; `add` decodes and encodes: never on the loop."""

    def list(self) -> tuple[Voice, ...]:
        """The default one first, then the other built-in ones, then cloned ones by age."""

    def get(self, voice_id: str) -> Voice:
        """By id only. Raises VoiceNotFoundError."""

    def resolve(self, name: str | None) -> Voice:
        """By id, by name, by one of OpenAI's names; None and `default` are the default voice.

        Raises VoiceNotFoundError.
        """

    def aliases(self) -> dict[str, str]:
        """OpenAI's voice names and the ids they stand for."""

    def add(self, new: NewVoice) -> Voice:
        """Blocking. Raises BadAudioError, InvalidParameterError, ConflictError, UnsupportedError."""

    def rename(self, voice_id: str, name: str) -> Voice:
        """Raises VoiceNotFoundError, ConflictError, UnsupportedError for a built-in one."""

    def delete(self, voice_id: str) -> None:
        """Raises VoiceNotFoundError, UnsupportedError for a built-in one."""

    def clone_uses(self) -> dict[str, int]:
        """Utterances begun with a cloned voice: `stored` ones, and those cloned from a `recording` in the request."""


class ReferenceMode(StrEnum):
    """`reference`: the whole recording gives the voice. `continuation`: its first three seconds are continued."""

    REFERENCE = "reference"
    CONTINUATION = "continuation"


@dataclass(frozen=True)
class Reference:
    """A recording to speak like: mono samples `[N]` at `rate` Hz, and what is said in it."""

    pcm: Float32 = field(repr=False)
    rate: int
    text: str
    mode: ReferenceMode = ReferenceMode.REFERENCE


@dataclass(frozen=True)
class WarmUp:
    """What the first real synthesis took on `model`."""

    model: str
    ttfa_s: float
    rtf: float
    audio_s: float


class Utterance(Protocol):
    """Text in, events out; exactly one terminal event, also when it is spoken sentence by sentence."""

    @property
    def model(self) -> LoadedModel: ...

    @property
    def cfg_scale(self) -> float:
        """Guidance."""

    @property
    def by_sentence(self) -> bool:
        """Whether an offline checkpoint speaks it, one sentence after another."""

    def append(self, text: str) -> None: ...

    def append_tokens(self, ids: Sequence[int]) -> None: ...

    def flush(self) -> None:
        """Speak what can be spoken now without waiting for more text; `TextFlushed` says when that has been done."""

    def close(self) -> None:
        """End of the text."""

    def cancel(self) -> None: ...

    def __aiter__(self) -> AsyncIterator[Event]: ...


class SpeechService(Protocol):
    """Every loaded model behind one door."""

    @property
    def models(self) -> tuple[LoadedModel, ...]: ...

    @property
    def voices(self) -> VoiceStore: ...

    @property
    def alive(self) -> bool:
        """Whether every engine thread runs."""

    def engine_stats(self) -> dict[str, EngineStats]:
        """Counters by model name."""

    async def warm_up(self) -> WarmUp:
        """A real synthesis on every model; the figures are those of the model WebSockets use."""

    async def speak(self, text: str, options: UtteranceOptions, reference: Reference | None = None) -> Utterance:
        """The whole text at once; prefers the offline checkpoint."""

    def open_stream(self, options: UtteranceOptions) -> Utterance:
        """Text as it arrives; prefers the streaming checkpoint."""

    def close(self) -> None: ...
