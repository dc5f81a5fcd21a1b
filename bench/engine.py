"""Host time of an engine step with a model that computes nothing: scheduling, accounting and handing out audio.

    sled-tts bench engine --streams 64

A turn is all that the engine's thread does between two steps of the runner; every stream is guided and in step with the
others, which is the worst case. Its processor time is given as a mean, because only some turns hand out audio and a
median would leave just those out; wall-clock time, which holds waits for the interpreter and the core, as median.
`bare` drops events at once; `thread` is a live engine thread beside an event loop that turns every chunk into 16-bit
samples and writes them to a socket pair of its own: what a thread pays for sharing the interpreter. `process` is the
same with the engine in a process of its own and a pipe between; the two take turns. JSON last.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import io
import pstats
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np

from sled_tts.bench.common import Spread, finish, introduce, machine, show
from sled_tts.bench.engine_sinks import Sinks
from sled_tts.server.engine.bridge import EngineBridge
from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.commands import Admit
from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.handle import UtteranceHandle
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.outlet import Outlet
from sled_tts.server.engine.request import AudioChunk, Event, Float32, Mode, SynthesisRequest
from sled_tts.server.engine.scheduler import Policy
from sled_tts.server.engine.work import DecodeWork, RowOutcome, RowWork, RunnerInfo

_TOKENS = (0, *range(5, 45), 2)


@dataclass
class NullRunner:
    """Every step gives a frame, every frame silence; `device_s` is how long a step sleeps, as on a device of its own.

    `turns` holds the seconds between two steps that were not spent in here, `cpu` the thread's processor seconds.
    """

    info: RunnerInfo
    device_s: float = 0.0
    turns: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    _inside: tuple[float, float] = (0.0, 0.0)
    _left: tuple[float, float] | None = None

    def open(self, slot: int, request: SynthesisRequest) -> int:
        return 0

    def close(self, slot: int) -> None:
        pass

    def looked(self, slot: int) -> None:
        return None

    def latents(self, slot: int, start: int, count: int) -> Float32:
        return np.zeros((count, self.info.latent_dim), np.float32)

    def step(self, rows: Sequence[RowWork]) -> list[RowOutcome]:
        wall, cpu = _clocks()
        if self._left is not None and len(rows) == self.info.slots:
            self.turns.append(wall - self._left[0] - self._inside[0])
            self.cpu.append(cpu - self._left[1] - self._inside[1])
        self._inside = (0.0, 0.0)
        if self.device_s:
            time.sleep(self.device_s)
        outcomes = [RowOutcome.FRAME] * len(rows)
        self._left = _clocks()
        return outcomes

    def decode(self, work: Sequence[DecodeWork]) -> list[Float32]:
        came = _clocks()
        waves = [np.zeros(w.count * self.info.hop, np.float32) for w in work]
        left = _clocks()
        self._inside = (self._inside[0] + left[0] - came[0], self._inside[1] + left[1] - came[1])
        return waves


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.thread_time()


def null_engine(streams: int, frames: int, device_s: float) -> tuple[Engine, NullRunner]:
    info = RunnerInfo(
        slots=streams, positions=frames + 200, sampling_rate=24_000, hop=320, first_chunk_frames=7, eos_id=2,
        vocab_size=16_384, latent_dim=128, n=5, m=45,
    )  # fmt: skip
    runner = NullRunner(info, device_s)
    engine = Engine(runner, Policy(max_rows=streams), ChunkPolicy(7), FrameBudget(info.frame_rate))
    return engine, runner


def request(number: int, frames: int) -> SynthesisRequest:
    return SynthesisRequest(f"r{number}", Mode.STREAMING, number, 2.0, frames, token_ids=_TOKENS)


def bare(streams: int, frames: int, profile: bool) -> NullRunner:
    """Nobody listens; the runner holds the times."""
    engine, runner = null_engine(streams, frames, 0.0)
    for number in range(streams):
        engine.post(Admit(request(number, frames), engine.pool.acquire(), Outlet(_drop, 10**9)))
    profiler = cProfile.Profile() if profile else None
    if profiler:
        profiler.enable()
    while engine.step():
        pass
    if profiler:
        profiler.disable()
        told = io.StringIO()
        pstats.Stats(profiler, stream=told).sort_stats("tottime").print_stats(14)
        print(told.getvalue())
    return runner


def _drop(event: Event) -> None:
    """Nobody reads: the event is dropped."""


async def _listen(handle: UtteranceHandle, sinks: Sinks, number: int) -> None:
    async for event in handle:
        if isinstance(event, AudioChunk):
            await sinks.write(number, event.pcm)
    sinks.close(number)


async def _with_sockets(streams: int, frames: int, device_s: float) -> tuple[NullRunner, float]:
    """The engine's turns, and all processor seconds of the process."""
    engine, runner = null_engine(streams, frames, device_s)
    bridge = EngineBridge(engine, max_unread_s=1e6)
    bridge.start()
    try:
        sinks = await Sinks.open(streams)
        began = time.process_time()
        handles = [bridge.submit(request(number, frames)) for number in range(streams)]
        await asyncio.gather(*(_listen(handle, sinks, number) for number, handle in enumerate(handles)))
        await sinks.check(frames * engine.info.hop * 2)
        total = time.process_time() - began
    finally:
        bridge.close()
    return runner, total


def _figures(runner: NullRunner, total_s: float | None, frames: int) -> dict[str, Any]:
    wall = Spread.of([1000 * seconds for seconds in runner.turns])
    made: dict[str, Any] = {"cpu_ms_mean": 1000 * fmean(runner.cpu), "wall_ms": wall.to_dict(3)}
    return made if total_s is None else made | {"total_cpu_ms_mean": 1000 * total_s / frames}


def _middle(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median round of each figure, with the range of rounds for the means."""
    made: dict[str, Any] = {"wall_ms": turns[0]["wall_ms"]}
    for name in [name for name in turns[0] if name != "wall_ms"]:
        values = sorted(turn[name] for turn in turns)
        made[name] = round(median(values), 3)
        made[name + "_range"] = [round(values[0], 3), round(values[-1], 3)]
    for name in made["wall_ms"]:
        made["wall_ms"] = made["wall_ms"] | {name: round(median(turn["wall_ms"][name] for turn in turns), 3)}
    return made


def _cells(times: dict[str, Any]) -> tuple[str, str, str]:
    wall, total = times["wall_ms"], times.get("total_cpu_ms_mean")
    return (
        f"{times['cpu_ms_mean']:.3f} ({' .. '.join(f'{v:.3f}' for v in times['cpu_ms_mean_range'])})",
        f"{wall['median']:.2f} ({wall['p10']:.2f} .. {wall['p90']:.2f})",
        "-" if total is None else f"{total:.2f} ({' .. '.join(f'{v:.2f}' for v in times['total_cpu_ms_mean_range'])})",
    )


def main() -> int:
    # Here, because the spawned process imports this module.
    from sled_tts.bench import engine_process

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64, 128])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--device-ms", type=float, default=5.0, help="What a step takes on the imagined device.")
    parser.add_argument("--rounds", type=int, default=3, help="Turns that thread and process get.")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    about = machine() | {"frames": options.frames, "device_ms": options.device_ms, "rounds": options.rounds}
    introduce(about)
    rows = []
    for streams in options.streams:
        given = streams, options.frames, options.device_ms / 1000
        rounds: dict[str, list[dict[str, Any]]] = {"bare": [], "thread": [], "process": []}
        for turn in range(options.rounds):
            rounds["bare"].append(_figures(bare(streams, options.frames, options.profile and not turn), None, 1))
            rounds["thread"].append(_figures(*asyncio.run(_with_sockets(*given)), options.frames))
            rounds["process"].append(_figures(*asyncio.run(engine_process.run(*given)), options.frames))
        rows.append({"streams": streams} | {name: _middle(turns) for name, turns in rounds.items()})
    show(
        "ms a step, medians of rounds (their range): the engine's turn, and everything with the event loop",
        ("streams", "engine", "turn, CPU mean", "turn, wall", "everything, CPU"),
        [(str(r["streams"]), name, *_cells(r[name])) for r in rows for name in ("bare", "thread", "process")],
    )
    finish(about, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
