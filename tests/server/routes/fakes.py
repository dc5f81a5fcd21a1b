"""A service that speaks sine waves, and fails when a test tells it to: for faults a real engine does not have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sled_tts.server.engine.request import (
    AudioChunk,
    Event,
    Failed,
    Finished,
    FinishReason,
    TextFlushed,
    TextSkipped,
    TextStarved,
    WordsSpoken,
    WordTiming,
)
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.errors import OverCapacityError
from sled_tts.server.service import LoadedModel, Reference, UtteranceOptions, WarmUp
from sled_tts.server.voices.catalogue import VoiceCatalogue

RATE, HOP = 16_000, 320
MODEL = LoadedModel("sine", "streaming", RATE, HOP, 5, 20, 4, 512, "cpu", 0)


@dataclass
class Script:
    """How every utterance of the service behaves."""

    frames_per_char: int = 1
    chunk_delay_s: float = 0.0
    fail_after_chunks: int | None = None
    error: Exception = field(default_factory=lambda: RuntimeError("a secret inside"))
    reason: FinishReason = FinishReason.STOP
    endless: bool = False


class SineUtterance:
    """One chunk of a sine for every piece of text."""

    def __init__(self, service: SineService, options: UtteranceOptions) -> None:
        self.model = MODEL
        self.by_sentence = False
        self.cfg_scale = 2.0 if options.cfg_scale is None else options.cfg_scale
        self.options = options
        self.cancelled = False
        self._service = service
        self._inbox: asyncio.Queue[str | TextFlushed | None] = asyncio.Queue()
        self._flushes = 0
        self._freed = False

    def append(self, text: str) -> None:
        self._inbox.put_nowait(text)

    def append_tokens(self, ids: Sequence[int]) -> None:
        self._inbox.put_nowait("x" * len(ids))

    def flush(self) -> None:
        self._service.flushes += 1
        self._flushes += 1
        self._inbox.put_nowait(TextFlushed(self._flushes))

    def close(self) -> None:
        self._inbox.put_nowait(None)

    def cancel(self) -> None:
        if not self.cancelled and not self._freed:
            self.cancelled = True
            self._inbox.put_nowait(None)
        self._free()

    def _free(self) -> None:
        if not self._freed:
            self._freed = True
            self._service.in_use -= 1

    async def __aiter__(self) -> AsyncIterator[Event]:
        script, frames, sequence = self._service.script, 0, 0
        while not self.cancelled:
            text = "x" if script.endless and sequence else await self._inbox.get()
            if text is None or self.cancelled:
                break
            if isinstance(text, TextFlushed):
                yield text
                if self._inbox.empty():
                    yield TextStarved(frames)
                continue
            if not text.isascii():
                yield TextSkipped("Han", text[:8], 0, len(text))
                continue
            if script.fail_after_chunks is not None and sequence >= script.fail_after_chunks:
                self._free()
                yield Failed(script.error)
                return
            await asyncio.sleep(script.chunk_delay_s)
            count = len(text) * script.frames_per_char
            time = (np.arange(count * HOP) + frames * HOP) / RATE
            if self.options.timings:
                start = frames * HOP / RATE
                yield WordsSpoken((WordTiming(text, start, start + count * HOP / RATE, 0, len(text)),))
            yield AudioChunk(sequence, (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), count, 0.1)
            frames, sequence = frames + count, sequence + 1
            if self._inbox.empty():
                yield TextStarved(frames)
        self._free()
        reason = FinishReason.CANCELLED if self.cancelled else script.reason
        yield Finished(reason, frames, frames * HOP, 0.01, 0.1)


class SineService:
    """As many utterances at once as `MODEL.slots`."""

    models = (MODEL,)

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.alive = True
        self.in_use = 0
        self.flushes = 0
        self.closed = False
        self.warm = asyncio.Event()
        self.warm.set()
        self.utterances: list[SineUtterance] = []
        self.reference: Reference | None = None
        self.voices = VoiceCatalogue(())

    def engine_stats(self) -> dict[str, EngineStats]:
        return {MODEL.name: EngineStats(MODEL.slots, in_use=self.in_use)}

    async def warm_up(self) -> WarmUp:
        await self.warm.wait()
        return WarmUp(MODEL.name, 0.01, 0.1, 1.0)

    def open_stream(self, options: UtteranceOptions) -> SineUtterance:
        self.voices.resolve(options.voice)
        if self.in_use >= MODEL.slots:
            raise OverCapacityError(f"all {MODEL.slots} slots are taken")
        self.in_use += 1
        self.utterances.append(SineUtterance(self, options))
        return self.utterances[-1]

    async def speak(self, text: str, options: UtteranceOptions, reference: Reference | None = None) -> SineUtterance:
        self.reference = reference
        utterance = self.open_stream(options)
        for word in text.split():
            utterance.append(word)
        utterance.close()
        return utterance

    def close(self) -> None:
        self.closed = True
