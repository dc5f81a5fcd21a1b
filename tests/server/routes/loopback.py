"""A real uvicorn on loopback, and a small client for the native WebSocket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sled_tts.server.app import create_app
from sled_tts.server.run import bound_port, make_server
from sled_tts.server.service import SpeechService
from sled_tts.server.settings import Settings


@dataclass
class Running:
    """Where a server listens; `stop` is what a signal does."""

    port: int
    http: httpx.AsyncClient
    app: Any
    stop: Callable[[], None]

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"


async def eventually(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until a condition holds; TimeoutError when it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.005)


async def ready(http: httpx.AsyncClient, timeout_s: float = 300.0) -> None:
    """Wait until the server reports readiness."""
    async with asyncio.timeout(timeout_s):
        while (await http.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def closed(socket: ClientConnection) -> int | None:
    """Read on until the server has closed; its close code."""
    with suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code


@asynccontextmanager
async def running(service: SpeechService, wait_ready: bool = True, **settings: Any) -> AsyncIterator[Running]:
    """Serve on a free port until the block ends."""
    app = create_app(Settings(host="127.0.0.1", port=0, shutdown_timeout_s=2, **settings), service)
    server = make_server(app, app.state.sled.settings)
    task = asyncio.create_task(server.serve())

    def stop() -> None:
        server.should_exit = True

    try:
        await eventually(lambda: server.started or task.done())
        port = bound_port(server)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            if wait_ready:
                await ready(http)
            yield Running(port, http, app, stop)
    finally:
        stop()
        await task


@dataclass
class Heard:
    """What one utterance sent back. `pcm` is s16le."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    pcm: bytes = b""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def samples(self) -> npt.NDArray[np.int16]:
        return np.frombuffer(self.pcm, "<i2")


async def send(socket: ClientConnection, *messages: dict[str, Any]) -> None:
    for message in messages:
        await socket.send(json.dumps(message))


async def hear(socket: ClientConnection, until: Sequence[str] = ("done", "error")) -> Heard:
    """Read until a message of one of these types."""
    heard = Heard()
    async with asyncio.timeout(300):
        while True:
            frame = await socket.recv()
            if isinstance(frame, bytes):
                heard.pcm += frame
                continue
            heard.messages.append(json.loads(frame))
            if heard.messages[-1]["type"] in until:
                return heard


async def speak(socket: ClientConnection, words: Sequence[str], gap_s: float = 0.0, **start: Any) -> Heard:
    """One whole utterance, word by word."""

    async def write() -> None:
        await send(socket, {"type": "start", **start})
        for word in words:
            await send(socket, {"type": "text", "text": word})
            await asyncio.sleep(gap_s)
        await send(socket, {"type": "end"})

    writing = asyncio.create_task(write())
    try:
        return await hear(socket)
    finally:
        await writing


__all__ = ["Heard", "Running", "closed", "connect", "eventually", "hear", "ready", "running", "send", "speak"]
