"""Socket pairs that take the audio of `bench engine`, as a server's connections would."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import numpy as np

from sled_tts.server.engine.request import Float32


@dataclass
class Sinks:
    """One socket pair a stream; what is written is read at the other end and counted."""

    writers: list[asyncio.StreamWriter]
    draining: list[asyncio.Task[int]]
    written: list[int]
    # Either half takes the connection along when it is collected.
    kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]

    @classmethod
    async def open(cls, streams: int) -> Sinks:
        made = cls([], [], [0] * streams, [])
        for _ in range(streams):
            ours, theirs = socket.socketpair()
            unused, sink = await asyncio.open_connection(sock=ours)
            source, idle = await asyncio.open_connection(sock=theirs)
            made.kept.append((unused, idle))
            made.writers.append(sink)
            made.draining.append(asyncio.create_task(_drain(source)))
        return made

    async def write(self, number: int, pcm: Float32) -> None:
        """A chunk as 16-bit samples."""
        data = (np.clip(pcm, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
        self.writers[number].write(data)
        await self.writers[number].drain()
        self.written[number] += len(data)

    def close(self, number: int) -> None:
        self.writers[number].close()

    async def check(self, expected: int) -> None:
        """RuntimeError unless every stream wrote, and its other end read, so many bytes."""
        read = await asyncio.gather(*self.draining)
        if self.written != read or set(read) != {expected}:
            raise RuntimeError("audio was lost between engine and socket")


async def _drain(reader: asyncio.StreamReader) -> int:
    read = 0
    while data := await reader.read(65536):
        read += len(data)
    return read
