"""From latents to chunks in a listener's queue: which frames are decoded when, and what the clock says about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from sled_tts.server.engine.chunks import ChunkPolicy
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


@dataclass
class Delivery:
    """Decodes what is due and hands it to the streams' outlets. Engine thread only."""

    runner: StepRunner
    chunks: ChunkPolicy
    stats: EngineStats
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.info = self.runner.info

    def decode(self, streams: Sequence[Stream], ended: Collection[int]) -> list[tuple[Stream, EngineError]]:
        """Decode and emit what is due; returns the streams that failed. `ended`: slots that will say no more.

        The i-th calls of all streams share a batch.
        """
        now = self.clock()
        plans: list[tuple[Stream, list[int]]] = []
        for s in streams:
            lead = s.playback.lead_s(now) or 0.0
            cuts = self.chunks.next_cuts(s.decoded, s.speech, s.prompt_frames, lead, s.slot in ended, s.primed)
            if cuts and s.frames:
                plans.append((s, cuts))
        pcm: dict[int, list[Float32]] = {s.slot: [] for s, _ in plans}
        due = [s for s, _ in plans]
        failed: list[tuple[Stream, EngineError]] = []
        while plans:
            work = [
                DecodeWork(s.slot, s.decoded, cuts[0] - s.decoded, s.slot in ended and len(cuts) == 1)
                for s, cuts in plans
            ]
            try:
                waves = self.runner.decode(work)
            except Exception as error:
                log.exception("decoding %d streams failed", len(plans))
                self.stats.step_errors += 1
                failed = [(s, engine_error(error)) for s, _ in plans]
                for s, _ in plans:
                    del pcm[s.slot]
                break
            for (s, cuts), wave in zip(plans, waves, strict=True):
                spoken = s.prompt_frames - s.decoded
                pcm[s.slot].append(wave[spoken * self.info.hop :] if spoken > 0 else wave)
                s.decoded = cuts.pop(0)
            plans = [(s, cuts) for s, cuts in plans if cuts]
        for s in due:
            if s.slot in pcm:
                self._deliver(s, pcm[s.slot])
        return failed

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
