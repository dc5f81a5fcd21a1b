"""What a server that is told to stop does with those it speaks to."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from sled_tts.server.wyoming.framing import WyomingEvent, read_event
from tests.server.routes.fakes import Script, SineService
from tests.server.routes.loopback import closed, connect, eventually, hear, running, send

SPEAKING_S = 0.6


async def test_an_utterance_ends_before_its_connection_does_and_nothing_new_begins() -> None:
    async with running(SineService(Script(chunk_delay_s=SPEAKING_S))) as server, connect(server.ws_url) as socket:
        await send(socket, {"type": "start"}, {"type": "text", "text": "words"}, {"type": "end"})
        await hear(socket, ("started",))
        server.stop()
        await eventually(lambda: server.app.state.sled.stopping)
        # Over the connection that is open already; another one is not accepted.
        refused = await server.http.get("/health/ready")
        assert refused.status_code == 503
        assert "shutting down" in refused.json()["error"]["message"]
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(base_url=server.http.base_url) as other:
                await other.get("/health/live")
        heard = await hear(socket)
        assert heard.messages[-1]["finish_reason"] == "stop"
        assert heard.pcm
        assert await closed(socket) == 1012


async def test_an_utterance_without_end_is_cut_when_its_time_is_over() -> None:
    service = SineService(Script(chunk_delay_s=0.01, endless=True))
    async with running(service) as server, connect(server.ws_url) as socket:
        await send(socket, {"type": "start"}, {"type": "text", "text": "words"})
        await hear(socket, ("chunk",))
        server.stop()
        begin = time.monotonic()
        assert await closed(socket) == 1012
        assert 2.0 <= time.monotonic() - begin < 3.5


async def test_connections_that_wait_are_closed_at_once() -> None:
    async with running(SineService()) as server, connect(server.ws_url) as socket:
        await send(socket, {"type": "start"}, {"type": "text", "text": "words"}, {"type": "end"})
        await hear(socket)
        server.stop()
        begin = time.monotonic()
        assert await closed(socket) == 1012
        assert time.monotonic() - begin < 1.0


async def test_wyoming_speaks_to_the_end_too() -> None:
    async with running(SineService(Script(chunk_delay_s=SPEAKING_S)), wyoming_port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.state.sled.wyoming_port)
        writer.write(WyomingEvent("synthesize", {"text": "words"}).to_bytes())
        await eventually(lambda: server.app.state.sled.speaking)
        server.stop()
        kinds = []
        while (event := await read_event(reader, 2**20)) is not None:
            kinds.append(event.kind)
        assert kinds == ["audio-start", "audio-chunk", "audio-stop"]
        writer.close()
