"""Interrupting every protocol, over a real socket and with a real engine: from the frame that asks for it on, no audio.

Milliseconds are measured by `sled-tts bench interruption`; here the bounds are counted, in messages and engine steps.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from sled_tts.server.engine.commands import Cancel, Command
from sled_tts.server.engine.engine import Engine
from sled_tts.server.routes.cartesia import CartesiaSession
from sled_tts.server.routes.deepgram import DeepgramSession
from sled_tts.server.routes.elevenlabs import ElevenLabsSession
from sled_tts.server.routes.native import NativeSession
from sled_tts.server.wyoming.framing import WyomingEvent, read_event
from sled_tts.server.wyoming.wire import WyomingWire
from tests.server.routes.conftest import RATE, Load
from tests.server.routes.loopback import Running, closed, connect, eventually, running, send
from tests.server.routes.watching import Watch, watch

WORDS = "some words to learn from and some more words that follow " * 20
RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE}
CARTESIA = {
    "model_id": "sonic-3", "transcript": WORDS, "voice": {"mode": "id", "id": "default"}, "output_format": RAW,
    "context_id": "a",
}  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How one WebSocket protocol is spoken to. `audio` tells audio among what a wire sends; `answers` end an
    interruption."""

    route: str
    path: str
    session: type[Any]
    opening: tuple[dict[str, Any], ...]
    interrupt: dict[str, Any]
    answers: Callable[[dict[str, Any]], bool]
    audio: Callable[[Any], bool]


def _is_bytes(sent: Any) -> bool:
    return isinstance(sent, bytes)


PROTOCOLS = (
    Protocol(
        "stream",
        "/v1/stream",
        NativeSession,
        ({"type": "start", "seed": 1}, {"type": "text", "text": WORDS}),
        {"type": "cancel"},
        lambda m: m["type"] == "done" and m["finish_reason"] == "cancelled",
        _is_bytes,
    ),
    Protocol(
        "elevenlabs",
        f"/v1/text-to-speech/default/multi-stream-input?output_format=pcm_{RATE}",
        ElevenLabsSession,
        ({"text": WORDS, "context_id": "a"},),
        {"context_id": "a", "close_context": True},
        lambda m: m.get("isFinal") is True,
        lambda m: bool(m.get("audio")),
    ),
    Protocol(
        "elevenlabs",
        f"/v1/text-to-speech/default/stream-input?output_format=pcm_{RATE}",
        ElevenLabsSession,
        ({"text": WORDS},),
        {"close_socket": True},
        lambda m: False,
        lambda m: bool(m.get("audio")),
    ),
    Protocol(
        "cartesia",
        "/tts/websocket",
        CartesiaSession,
        (CARTESIA,),
        {"context_id": "a", "cancel": True},
        lambda m: m["type"] == "done",
        lambda m: m["type"] == "chunk",
    ),
    Protocol(
        "deepgram",
        f"/v1/speak?encoding=linear16&sample_rate={RATE}",
        DeepgramSession,
        ({"type": "Speak", "text": WORDS}, {"type": "Flush"}),
        {"type": "Clear"},
        lambda m: m["type"] == "Cleared",
        _is_bytes,
    ),
)


@dataclass
class Steps:
    """`after`: how many steps the engine has ended since it was told to stop: one may have been under way."""

    armed: bool = False
    engine: Engine | None = None
    at_cancel: int = 0

    def arm(self) -> None:
        """Count from the next cancellation on."""
        self.armed, self.engine = True, None

    @property
    def after(self) -> int:
        assert self.engine is not None, "nothing was cancelled"
        return self.engine.stats.steps - self.at_cancel


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Counted from the moment the engine's inbox has the first cancellation after `armed`; warming up has its own."""
    counted, post = Steps(), Engine.post

    def watched(self: Engine, command: Command) -> None:
        post(self, command)
        if isinstance(command, Cancel) and counted.armed and counted.engine is None:
            counted.engine, counted.at_cancel = self, self.stats.steps

    monkeypatch.setattr(Engine, "post", watched)
    return counted


def _measured(server: Running, route: str) -> float:
    """How many interruptions of `route` the server has measured."""
    samples = server.app.state.sled.metrics.silence.collect()[0].samples
    wanted = "sled_tts_interruption_seconds_count"
    return sum(one.value for one in samples if one.name == wanted and one.labels == {"route": route})


async def _stopped(server: Running, route: str, steps: Steps, measured: float = 0.0) -> None:
    """Every slot is free, the engine has stopped, and the server has measured one interruption of `route` more."""
    stats = server.app.state.sled.service.engine_stats
    await eventually(lambda: sum(one.in_use for one in stats().values()) == 0)
    await asyncio.sleep(0.05)
    assert steps.after <= 1, route
    await eventually(lambda: _measured(server, route) == measured + 1)


async def _speaking(server: Running, protocol: Protocol) -> ClientConnection:
    """A connection on which audio has begun to come."""
    socket = await connect(f"ws://127.0.0.1:{server.port}{protocol.path}", max_size=None)
    await send(socket, *protocol.opening)
    while not protocol.audio(_decoded(await socket.recv())):
        pass
    return socket


async def test_websockets_are_silent_from_the_frame_on(
    load: Load, streaming_folder: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    async with running(load(streaming_folder)) as server:
        for protocol in PROTOCOLS:
            with monkeypatch.context() as patched:
                seen = watch(patched, protocol.session, protocol.interrupt.__eq__)
                measured = _measured(server, protocol.route)
                socket = await _speaking(server, protocol)
                steps.arm()
                await send(socket, protocol.interrupt)
                if protocol.interrupt == {"close_socket": True}:
                    assert await closed(socket) == 1000
                else:
                    while not isinstance(frame := await socket.recv(), str) or not protocol.answers(json.loads(frame)):
                        pass
                await _stopped(server, protocol.route, steps, measured)
                assert [message for message in seen.after() if protocol.audio(message)] == []
                await socket.close()


async def test_websockets_that_are_left_are_silent(load: Load, streaming_folder: Path, steps: Steps) -> None:
    async with running(load(streaming_folder)) as server:
        for protocol in PROTOCOLS:
            measured = _measured(server, protocol.route)
            socket = await _speaking(server, protocol)
            steps.arm()
            await socket.close()
            await _stopped(server, protocol.route, steps, measured)


async def test_a_wyoming_client_that_leaves_is_not_spoken_to(
    load: Load, streaming_folder: Path, monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    seen = Watch()
    wire_send = WyomingWire.send

    async def watched(self: WyomingWire, event: WyomingEvent) -> None:
        assert self.left_at is None, "sent to somebody who has left"
        seen.sent.append((0.0, event))
        await wire_send(self, event)

    monkeypatch.setattr(WyomingWire, "send", watched)
    async with running(load(streaming_folder), wyoming_port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.state.sled.wyoming_port)
        for _ in range(2):
            writer.write(WyomingEvent("synthesize", {"text": WORDS}).to_bytes())
        while (event := await read_event(reader, 2**24)) is not None and event.kind != "audio-chunk":
            pass
        # Only the sending side: the server could still write, and has to stop by itself.
        steps.arm()
        writer.write_eof()
        while await read_event(reader, 2**24) is not None:
            pass
        await _stopped(server, "wyoming", steps)
        assert "audio-stop" not in [event.kind for _, event in seen.sent], "what was cut is not complete"
        writer.close()


def _decoded(frame: str | bytes) -> Any:
    return frame if isinstance(frame, bytes) else _Lenient(json.loads(frame))


class _Lenient(dict[str, Any]):
    """A message in which no key is missing."""

    def __missing__(self, key: str) -> None:
        return None
