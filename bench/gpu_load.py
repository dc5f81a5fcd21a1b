"""The whole engine on a GPU without sockets: many streams at once, what their listeners hear, and when."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from sled_tts.bench.gpu_parts import Bench
from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.commands import Admit
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.outlet import Outlet
from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished, Mode, SynthesisRequest
from sled_tts.server.engine.scheduler import Policy

_TOKENS = 40


@dataclass
class Heard:
    """When each chunk of one stream came, and how many samples it had."""

    asked_at: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    ended: Finished | Failed | None = None

    def take(self, event: Event) -> None:
        if isinstance(event, AudioChunk):
            self.arrivals.append((time.perf_counter(), event.pcm.size))
        elif isinstance(event, Finished | Failed):
            self.ended = event

    @property
    def ttfa_s(self) -> float:
        return self.arrivals[0][0] - self.asked_at

    def underruns(self, rate: int, buffer_s: float) -> int:
        """How often a listener ran dry who began `buffer_s` after the first chunk and waits for each late one."""
        play_until, count = self.arrivals[0][0] + buffer_s, 0
        for at, samples in self.arrivals:
            if at > play_until:
                count, play_until = count + 1, at
            play_until += samples / rate
        return count


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[round(part * (len(ordered) - 1))]


def always(bench: Bench, runner: DeviceRunner, streams: int, seconds: float, stream_s: float) -> dict[str, Any]:
    """`streams` of them always under way for `seconds`: whoever ends is followed by another at once.

    They begin one step apart, so that they are out of step. Reading is unbounded: the engine runs as fast as it can.
    """
    info = runner.info
    frames = max(info.first_chunk_frames + 1, round(stream_s * info.frame_rate))
    engine = Engine(
        runner, Policy(max_rows=streams), ChunkPolicy(info.first_chunk_frames), FrameBudget(info.frame_rate)
    )
    heard: list[Heard] = []
    began = time.perf_counter()

    def ask() -> None:
        number = len(heard)
        ids = (0, *(4 + (13 * number + k) % (info.vocab_size - 4) for k in range(_TOKENS - 2)), 2)
        request = SynthesisRequest(f"g{number}", Mode.STREAMING, bench.seed + number, 2.0, frames, token_ids=ids)
        heard.append(Heard(time.perf_counter()))
        engine.post(Admit(request, engine.pool.acquire(), Outlet(heard[-1].take, 10**9)))

    while (now := time.perf_counter()) - began < seconds and now < bench.deadline + 20:
        if engine.pool.in_use < streams:
            ask()
        engine.step()
    wall = time.perf_counter() - began
    for stream in list(engine.streams.values()):
        stream.outlet.max_unread = 0  # nobody reads any more: what is under way is settled, no more is begun
    while engine.step():
        pass
    engine.fail_all(RuntimeError("the measurement is over"))
    speaking = [h for h in heard if h.arrivals]
    whole = [h for h in heard if isinstance(h.ended, Finished)]
    audio_s = sum(samples for h in heard for at, samples in h.arrivals if at - began <= wall) / info.sampling_rate
    ttfa = [1000 * h.ttfa_s for h in speaking]
    return {
        "streams": streams,
        "wall_s": round(wall, 2),
        "begun": len(heard),
        "whole": len(whole),
        "times_real_time": round(audio_s / wall, 1),
        "rtf_of_a_stream": round(streams * wall / audio_s, 4) if audio_s else None,
        "ttfa_ms": {f"p{round(100 * p)}": round(percentile(ttfa, p), 2) for p in (0.5, 0.95, 0.99)} if ttfa else None,
        "underruns_0ms": sum(h.underruns(info.sampling_rate, 0.0) for h in speaking),
        "underruns_100ms": sum(h.underruns(info.sampling_rate, 0.1) for h in speaking),
        "step_ms_mean": round(1000 * engine.stats.busy_s / max(1, engine.stats.steps), 3),
        "failed_steps": engine.stats.step_errors,
    }
