"""From latents to chunks in a listener's queue: which frames are decoded when, and what the clock says about it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.pipeline import Device, Pending
from sled_tts.server.engine.request import AudioChunk, Finished, FinishReason, Float32
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.engine.streams import Stream
from sled_tts.server.engine.work import DecodeWork, StepRunner
from sled_tts.server.errors import EngineError

log = logging.getLogger(__name__)


def engine_error(cause: Exception) -> EngineError:
    """What callers are told about a fault that is not theirs."""
    error = EngineError("synthesis failed inside the engine")
    error.__cause__ = cause
    return error


@dataclass(frozen=True)
class Part:
    """One decode call under way; `muted` samples of each wave are the prompt's."""

    streams: Sequence[Stream]
    muted: Sequence[int]
    waves: Pending[list[Float32]]


@dataclass
class Batch:
    """The decode calls that one step led to, and how many frames each stream will hear of them."""

    streams: Sequence[Stream]
    frames: Sequence[int]
    parts: list[Part] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return all(part.waves.done for part in self.parts)


@dataclass
class Delivery:
    """Decodes what is due and hands it to the streams' outlets. Engine thread only."""

    runner: StepRunner
    device: Device
    chunks: ChunkPolicy
    stats: EngineStats
    clock: Callable[[], float]
    _batches: deque[Batch] = field(default_factory=deque, init=False)

    def __post_init__(self) -> None:
        self.info = self.runner.info

    @property
    def under_way(self) -> bool:
        return bool(self._batches)

    def launch(self, streams: Sequence[Stream]) -> list[tuple[Stream, EngineError]]:
        """Begin to decode what is due; returns the streams that failed. Those that are `ending` will say no more.

        The i-th calls of all streams share a decode.
        """
        now = self.clock()
        plans: list[tuple[Stream, list[int]]] = []
        for s in streams:
            lead = s.playback.lead_s(now) or 0.0
            final = s.ending is not None
            cuts = self.chunks.next_cuts(s.decoded, s.speech, s.prompt_frames, lead, final, s.primed, s.behind)
            if final and not cuts and s.request.register is not None and not s.emptied:
                cuts = [s.decoded]  # the melody still holds something back
            if cuts and s.frames:
                plans.append((s, cuts))
                s.emptied = final
        if not plans:
            return []
        batch = Batch([s for s, _ in plans], [cuts[-1] - max(s.decoded, s.prompt_frames) for s, cuts in plans])
        failed: list[tuple[Stream, EngineError]] = []
        while plans:
            work = [
                DecodeWork(s.slot, s.decoded, cuts[0] - s.decoded, s.ending is not None and len(cuts) == 1)
                for s, cuts in plans
            ]
            try:
                waves = self.device.launch_decode(work)
            except Exception as error:
                failed = self._decode_failed([s for s, _ in plans], error)
                break
            muted = [max(0, s.prompt_frames - s.decoded) * self.info.hop for s, _ in plans]
            batch.parts.append(Part([s for s, _ in plans], muted, waves))
            for s, cuts in plans:
                s.decoded = cuts.pop(0)
            plans = [(s, cuts) for s, cuts in plans if cuts]
        for s, frames in zip(batch.streams, batch.frames, strict=True):
            s.decoding += 1
            s.decoding_frames += frames
        self._batches.append(batch)
        return failed

    def collect(self, leave: int) -> list[tuple[Stream, EngineError]]:
        """Deliver what has been decoded, waiting for all batches but the last `leave`; returns streams that failed."""
        failed: list[tuple[Stream, EngineError]] = []
        while self._batches and (len(self._batches) > leave or self._batches[0].done):
            failed += self._heard(self._batches.popleft())
        return failed

    def forget(self) -> None:
        """Drop what is under way: everybody has been told that it failed."""
        self._batches.clear()

    def _heard(self, batch: Batch) -> list[tuple[Stream, EngineError]]:
        pcm: dict[int, list[Float32]] = {s.slot: [] for s in batch.streams if not s.over}
        failed: list[tuple[Stream, EngineError]] = []
        for part in batch.parts:
            try:
                waves = part.waves.wait()
            except Exception as error:
                lost = [s for s in part.streams if pcm.pop(s.slot, None) is not None]
                failed += self._decode_failed(lost, error)
                continue
            for s, muted, wave in zip(part.streams, part.muted, waves, strict=True):
                if not s.over and s.slot in pcm:
                    pcm[s.slot].append(wave[muted:] if muted else wave)
        for s, frames in zip(batch.streams, batch.frames, strict=True):
            s.decoding -= 1
            s.decoding_frames -= frames
            if not s.over and s.slot in pcm:
                self._deliver(s, pcm[s.slot])
        return failed

    def _decode_failed(self, streams: Sequence[Stream], error: Exception) -> list[tuple[Stream, EngineError]]:
        log.error("decoding %d streams failed", len(streams), exc_info=error)
        self.stats.step_errors += 1
        return [(s, engine_error(error)) for s in streams]

    def _deliver(self, stream: Stream, waves: Sequence[Float32]) -> None:
        audible = [wave for wave in waves if wave.size]
        if not audible:
            return
        pcm = audible[0] if len(audible) == 1 else np.concatenate(audible)
        now = self.clock()
        if stream.ttfa_s is None and stream.first_token_at is not None:
            stream.ttfa_s = now - stream.first_token_at
            self.stats.ttfa.observe(stream.ttfa_s)
        frames = pcm.size // self.info.hop
        before = stream.playback.underruns
        lead = stream.playback.deliver(now, frames)
        self.stats.underruns += stream.playback.underruns - before
        looks = tuple(stream.looks[:frames])
        del stream.looks[:frames]
        stream.outlet.emit(AudioChunk(stream.sequence, pcm, frames, lead, looks))
        stream.sequence += 1
        stream.samples += pcm.size
        self.stats.frames += frames
        self.stats.audio_s += pcm.size / self.info.sampling_rate

    def summary(self, stream: Stream, reason: FinishReason) -> Finished:
        """How a stream ended that did not fail."""
        audio_s = stream.samples / self.info.sampling_rate
        rtf = stream.busy_s / audio_s if stream.samples else None
        frames = stream.samples // self.info.hop
        kept = None
        if stream.request.keep_latents and reason is not FinishReason.CANCELLED:
            kept = self.runner.latents(stream.slot, stream.prompt_frames, frames)
        return Finished(reason, frames, stream.samples, stream.ttfa_s, rtf, kept)
