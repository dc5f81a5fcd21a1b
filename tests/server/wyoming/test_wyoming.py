"""The Wyoming listener over a real TCP socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sled_tts.server.engine.request import FinishReason
from sled_tts.server.wyoming.framing import WyomingEvent, read_event
from tests.server.routes.fakes import HOP, MODEL, RATE, Script, SineService
from tests.server.routes.loopback import eventually, running

FRAME = HOP * 2


class Client:
    """Writes events, reads events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *events: tuple[str, dict[str, Any]]) -> None:
        for kind, data in events:
            self.writer.write(WyomingEvent(kind, data).to_bytes())
        await self.writer.drain()

    async def next(self) -> WyomingEvent | None:
        async with asyncio.timeout(20):
            return await read_event(self.reader, 2**24)

    async def until(self, kind: str) -> list[WyomingEvent]:
        """Events up to one of this kind."""
        heard: list[WyomingEvent] = []
        while not heard or heard[-1].kind != kind:
            event = await self.next()
            assert event is not None, [e.kind for e in heard]
            heard.append(event)
        return heard


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def connected(service: SineService, **settings: Any) -> AsyncIterator[Client]:
    async with (
        running(service, wyoming_port=0, **settings) as server,
        client(server.app.state.sled.wyoming_port) as one,
    ):
        yield one


def pcm(events: list[WyomingEvent]) -> bytes:
    return b"".join(event.payload for event in events if event.kind == "audio-chunk")


def kinds(events: list[WyomingEvent]) -> list[str]:
    return [e.kind for place, e in enumerate(events) if place == 0 or events[place - 1].kind != e.kind]


async def test_it_is_off_unless_asked_for() -> None:
    async with running(SineService()) as server:
        assert server.app.state.sled.wyoming_port is None


async def test_it_says_what_it_can_and_answers_pings() -> None:
    async with connected(SineService()) as one:
        await one.send(("describe", {}), ("ping", {"text": "still there?"}))
        info, pong = (await one.until("pong"))[-2:]
        (program,) = info.data["tts"]
        assert program["supports_synthesize_streaming"] is True
        assert [voice["name"] for voice in program["voices"]] == ["default"]
        assert all(voice["installed"] and voice["languages"] for voice in program["voices"])
        assert pong.data == {"text": "still there?"}


async def test_a_text_is_audio_between_start_and_stop() -> None:
    service = SineService()
    async with connected(service) as one:
        await one.send(("synthesize", {"text": "abc", "voice": {"name": "default"}}), ("synthesize", {"text": "de"}))
        first, second = await one.until("audio-stop"), await one.until("audio-stop")
    for heard, frames in ((first, 3), (second, 2)):
        assert kinds(heard) == ["audio-start", "audio-chunk", "audio-stop"]
        assert len(pcm(heard)) == frames * FRAME
        for event in heard[:-1]:
            assert (event.data["rate"], event.data["width"], event.data["channels"]) == (RATE, 2, 1)
    await eventually(lambda: service.in_use == 0)


async def test_text_in_chunks_is_spoken_before_it_ends() -> None:
    async with connected(SineService()) as one:
        await one.send(("synthesize-start", {}), ("synthesize-chunk", {"text": "ab "}))
        start, chunk = await one.next(), await one.next()
        assert start is not None
        assert chunk is not None
        assert (start.kind, chunk.kind) == ("audio-start", "audio-chunk")
        # The whole text comes too, for servers that cannot stream: it is not spoken twice.
        await one.send(("synthesize-chunk", {"text": "cd"}), ("synthesize", {"text": "ab cd"}), ("synthesize-stop", {}))
        rest = await one.until("synthesize-stopped")
        assert kinds(rest) == ["audio-chunk", "audio-stop", "synthesize-stopped"]
        assert len(chunk.payload + pcm(rest)) == 5 * FRAME
        assert [e.data["timestamp"] for e in rest if e.kind == "audio-chunk"] == [1000 * 3 * HOP // RATE]


@pytest.mark.parametrize("text", ["", "  "])
async def test_nothing_to_say_is_empty_audio(text: str) -> None:
    service = SineService()
    async with connected(service) as one:
        await one.send(("synthesize", {"text": text}))
        assert kinds(await one.until("audio-stop")) == ["audio-start", "audio-stop"]
        await one.send(("synthesize-start", {}), ("synthesize-stop", {}))
        assert kinds(await one.until("synthesize-stopped")) == ["audio-start", "audio-stop", "synthesize-stopped"]
        assert not service.utterances


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([("synthesize", {})], "invalid_parameter"),
        ([("synthesize", {"text": ["a"]})], "invalid_parameter"),
        ([("synthesize", {"text": "a", "voice": {"name": "nobody"}})], "not_found"),
        ([("synthesize", {"text": "a", "voice": {"name": 5}})], "invalid_parameter"),
        ([("synthesize", {"text": "<speak/>", "text_format": "ssml"})], "unsupported"),
        ([("synthesize", {"text": "x" * 60})], "input_too_long"),
        ([("synthesize-chunk", {"text": "a"})], "protocol_error"),
        ([("synthesize-stop", {})], "protocol_error"),
        ([("synthesize-start", {}), ("synthesize-start", {})], "protocol_error"),
    ],
)
async def test_errors_are_told_and_end_the_connection(events: list[tuple[str, dict[str, Any]]], code: str) -> None:
    service = SineService()
    async with connected(service, max_stream_chars=50) as one:
        await one.send(*events)
        error = (await one.until("error"))[-1]
        assert error.data["code"] == code
        assert error.data["text"]
        assert await one.next() is None
        await eventually(lambda: service.in_use == 0)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{nonsense}\n", "bad_json"),
        (b"[]\n", "bad_json"),
        (b'{"data": {}}\n', "bad_json"),
        (b'{"type": "ping", "data": 5}\n', "bad_json"),
        (b'{"type": "ping", "data_length": -1}\n', "bad_json"),
        (b'{"type": "ping", "data_length": true}\n', "bad_json"),
        (b'{"type": "ping", "payload_length": 99999999999}\n', "input_too_long"),
        (b'{"type": "ping", "data_length": 2}\n[]', "bad_json"),
        (b"x" * 70_000, "input_too_long"),
    ],
)
async def test_hostile_bytes(raw: bytes, code: str) -> None:
    async with connected(SineService()) as one:
        one.writer.write(raw)
        assert (await one.until("error"))[-1].data["code"] == code
        assert await one.next() is None


async def test_failures_and_cut_audio_are_never_complete() -> None:
    for script, code in (
        (Script(fail_after_chunks=0), "internal_error"),
        (Script(reason=FinishReason.LENGTH), "length"),
    ):
        async with connected(SineService(script)) as one:
            await one.send(("synthesize", {"text": "ab"}))
            heard = await one.until("error")
            assert heard[-1].data["code"] == code
            assert "audio-stop" not in kinds(heard)
            assert "secret" not in str(heard)


async def test_every_slot_taken_is_told_at_once() -> None:
    service = SineService()
    async with running(service, wyoming_port=0) as server:
        port = server.app.state.sled.wyoming_port
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MODEL.slots)]
        for reader, writer in held:
            await Client(reader, writer).send(("synthesize-start", {}), ("synthesize-chunk", {"text": "a"}))
        await eventually(lambda: service.in_use == MODEL.slots)
        async with client(port) as extra:
            await extra.send(("synthesize", {"text": "a"}))
            assert (await extra.until("error"))[-1].data["code"] == "over_capacity"
        for _, writer in held:
            writer.transport.abort()
        await eventually(lambda: service.in_use == 0)


async def test_texts_wait_for_their_turn_up_to_a_limit_while_the_connection_is_read() -> None:
    service = SineService(Script(chunk_delay_s=0.1))
    async with connected(service, ws_max_contexts=3) as one:
        await one.send(*(("synthesize", {"text": text}) for text in ("ab", " ", "c")), ("ping", {"text": "now"}))
        before = await one.until("pong")
        assert "audio-stop" not in kinds(before), "answered while it speaks"
        heard = before + await one.until("audio-stop")
        assert len(pcm(heard)) == 2 * FRAME
        assert pcm(await one.until("audio-stop")) == b""
        assert len(pcm(await one.until("audio-stop"))) == FRAME
        assert len(service.utterances) == 2, "one after another, and none for nothing"
        await one.send(*(("synthesize", {"text": "ab"}) for _ in range(4)))
        assert (await one.until("error"))[-1].data["code"] == "input_too_long"
        await eventually(lambda: service.in_use == 0)


async def test_silence_ends_the_connection() -> None:
    service = SineService()
    async with connected(service, ws_idle_timeout_s=0.2) as one:
        await one.send(("synthesize-start", {}), ("synthesize-chunk", {"text": "never ended"}))
        assert (await one.until("error"))[-1].data["code"] == "idle_timeout"
        await eventually(lambda: service.in_use == 0)


async def test_it_stops_with_the_server_whatever_it_is_doing() -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service, wyoming_port=0) as server:
        port = server.app.state.sled.wyoming_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        one = Client(reader, writer)
        await one.send(("synthesize", {"text": "endless"}))
        await one.until("audio-chunk")
    assert service.in_use == 0
    while await one.next() is not None:
        pass
    writer.close()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", port)
