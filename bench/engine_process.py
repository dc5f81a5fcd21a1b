"""The engine of `bench engine` in a process of its own: one pipe message a step, the event loop in this process.

Only for the comparison with a thread (docs/decisions/0006): what the loop does with a chunk is the same, but every
chunk crosses a pipe first.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from sled_tts.bench.engine import NullRunner, null_engine, request
from sled_tts.bench.engine_sinks import Sinks
from sled_tts.server.engine.commands import Admit
from sled_tts.server.engine.outlet import Outlet
from sled_tts.server.engine.request import AudioChunk, Event, Finished, Float32

_HEAD = struct.Struct("<II")


@dataclass(frozen=True)
class Report:
    """What the engine's process measured of itself: its turns as in `NullRunner`, and all of its processor time."""

    turns: list[float]
    cpu: list[float]
    process_s: float


class _Messages:
    """Events of one step, joined: a head (stream, bytes) for each, and its samples; no bytes is an end."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.parts = pipe, list[bytes]()

    def outlet(self, number: int) -> Outlet:
        def emit(event: Event) -> None:
            if isinstance(event, AudioChunk):
                self.parts += (_HEAD.pack(number, event.pcm.nbytes), event.pcm.tobytes())
            elif isinstance(event, Finished):
                self.parts.append(_HEAD.pack(number, 0))

        return Outlet(emit, 10**9)

    def flush(self) -> None:
        if self.parts:
            self.pipe.send_bytes(b"".join(self.parts))
            self.parts.clear()


def _serve(pipe: Connection, streams: int, frames: int, device_s: float) -> None:
    engine, runner = null_engine(streams, frames, device_s)
    messages = _Messages(pipe)
    engine.flush = messages.flush
    pipe.send(None)
    pipe.recv()
    began = time.process_time()
    for number in range(streams):
        engine.post(Admit(request(number, frames), engine.pool.acquire(), messages.outlet(number)))
    while engine.step():
        pass
    pipe.send(Report(runner.turns, runner.cpu, time.process_time() - began))


async def run(streams: int, frames: int, device_s: float) -> tuple[NullRunner, float]:
    """The engine's turns, and all processor seconds of both processes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, streams, frames, device_s))
    process.start()
    try:
        ours.recv()
        sinks = await Sinks.open(streams)
        queues = [asyncio.Queue[Float32 | None]() for _ in range(streams)]
        report: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        began = time.process_time()
        listening = [asyncio.create_task(_listen(queue, sinks, number)) for number, queue in enumerate(queues)]
        asyncio.get_running_loop().add_reader(ours.fileno(), _reader(ours, queues, report))
        ours.send(None)
        await asyncio.gather(*listening)
        told = await report
        await sinks.check(frames * 320 * 2)
        total = time.process_time() - began + told.process_s
    finally:
        asyncio.get_running_loop().remove_reader(ours.fileno())
        ours.close()
        process.join(10)
    _, runner = null_engine(streams, frames, device_s)
    runner.turns, runner.cpu = told.turns, told.cpu
    return runner, total


def _reader(
    pipe: Connection, queues: list[asyncio.Queue[Float32 | None]], report: asyncio.Future[Report]
) -> Callable[[], None]:
    """Takes one message when the pipe has something; the last one is the report."""
    ended = 0

    def read() -> None:
        nonlocal ended
        if ended == len(queues):
            with contextlib.suppress(EOFError):
                report.set_result(pipe.recv())
            asyncio.get_running_loop().remove_reader(pipe.fileno())
            return
        data = pipe.recv_bytes()
        at = 0
        while at < len(data):
            number, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            if size == 0:
                queues[number].put_nowait(None)
                ended += 1
                continue
            queues[number].put_nowait(np.frombuffer(data, np.float32, size // 4, at))
            at += size

    return read


async def _listen(queue: asyncio.Queue[Float32 | None], sinks: Sinks, number: int) -> None:
    while (pcm := await queue.get()) is not None:
        await sinks.write(number, pcm)
    sinks.close(number)
