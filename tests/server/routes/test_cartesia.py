"""`WS /tts/websocket` over a real socket: contexts, flush, cancel, errors, limits."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from sled_tts.server.engine.request import FinishReason
from sled_tts.server.routes.cartesia import CartesiaSession
from tests.server.routes.conftest import Load
from tests.server.routes.fakes import HOP, MODEL, RATE, Script, SineService
from tests.server.routes.loopback import Running, closed, connect, eventually, running, send
from tests.server.routes.watching import watch

RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE}


def url(server: Running, query: str = "") -> str:
    return f"ws://127.0.0.1:{server.port}/tts/websocket{query}"


def request(context_id: str | None, transcript: str, more: bool = False, **changes: Any) -> dict[str, Any]:
    message: dict[str, Any] = {
        "model_id": "sonic-3", "transcript": transcript, "voice": {"mode": "id", "id": "default"},
        "output_format": RAW, "continue": more,
    }  # fmt: skip
    return message | ({} if context_id is None else {"context_id": context_id}) | changes


async def receive(socket: ClientConnection, timeout_s: float = 30) -> dict[str, Any]:
    async with asyncio.timeout(timeout_s):
        message: dict[str, Any] = json.loads(await socket.recv())
    assert "context_id" in message, "clients read it without looking"
    return message


async def until_ended(socket: ClientConnection, *context_ids: str) -> dict[str, list[dict[str, Any]]]:
    """Messages by context, until each of them has had `done` or `error`."""
    heard: dict[str, list[dict[str, Any]]] = {context_id: [] for context_id in context_ids}
    while not all(messages and messages[-1]["done"] for messages in heard.values()):
        message = await receive(socket)
        heard[message["context_id"]].append(message)
    return heard


def pcm(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(m["data"]) for m in messages if m["type"] == "chunk")


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    """Types in order, runs of the same one once."""
    found = [m["type"] for m in messages]
    return [kind for place, kind in enumerate(found) if place == 0 or found[place - 1] != kind]


async def test_contexts_side_by_side_each_with_its_own_audio_and_one_done() -> None:
    service = SineService()
    async with running(service) as server, connect(url(server)) as socket:
        await send(
            socket, request("a", "xx", more=True), request("b", "yyyyy", more=True), request("a", "x", more=True)
        )
        await send(socket, request("b", "", more=False), request("a", " ", more=False))
        heard = await until_ended(socket, "a", "b")
    assert (len(pcm(heard["a"])), len(pcm(heard["b"]))) == (4 * HOP * 2, 5 * HOP * 2)
    for messages in heard.values():
        assert kinds(messages) == ["chunk", "done"]
        assert all(m["status_code"] == 206 and m["step_time"] >= 0 for m in messages[:-1])
    assert service.in_use == 0


async def test_a_context_without_an_id_gets_one() -> None:
    async with running(SineService()) as server, connect(url(server)) as socket:
        await send(socket, request(None, "abc"))
        first = await receive(socket)
        heard = await until_ended(socket, first["context_id"])
        assert len(pcm([first, *heard[first["context_id"]]])) == 3 * HOP * 2


@pytest.mark.parametrize("transcript", ["", " ", "\n"])
async def test_an_empty_context_is_done_and_takes_no_slot(transcript: str) -> None:
    service = SineService()
    async with running(service) as server, connect(url(server)) as socket:
        await send(socket, request("a", transcript, more=True), request("a", transcript))
        assert kinds((await until_ended(socket, "a"))["a"]) == ["done"]
        await send(socket, {"context_id": "never seen", "cancel": True})
        assert (await receive(socket))["type"] == "done"
        # The same id may be used again.
        await send(socket, request("a", "xx"))
        assert len(pcm((await until_ended(socket, "a"))["a"])) == 2 * HOP * 2
        assert len(service.utterances) == 1


async def test_later_messages_bring_text_only() -> None:
    """The SDK ends a context with a voice and a format of its own."""
    async with running(SineService()) as server, connect(url(server)) as socket:
        other = {"container": "raw", "encoding": "pcm_f32le", "sample_rate": 44_100}
        await send(socket, request("a", "xxx", more=True))
        await send(socket, request("a", "", voice="6ccbfb76-1fc6-48f7-b71d-91ac6298247b", output_format=other))
        heard = (await until_ended(socket, "a"))["a"]
        assert heard[-1]["type"] == "done"
        assert len(pcm(heard)) == 3 * HOP * 2


async def test_timestamps_come_with_the_audio_they_are_about() -> None:
    async with running(SineService()) as server, connect(url(server)) as socket:
        await send(socket, request("a", "one", more=True, add_timestamps=True), request("a", "seven"))
        heard = (await until_ended(socket, "a"))["a"]
    words = [m["word_timestamps"] for m in heard if m["type"] == "timestamps"]
    assert [w for one in words for w in one["words"]] == ["one", "seven"]
    assert [t for one in words for t in one["start"]] == [0.0, 3 * HOP / RATE]
    assert [t for one in words for t in one["end"]] == [3 * HOP / RATE, 8 * HOP / RATE]
    assert [m["type"] for m in heard] == ["timestamps", "chunk", "timestamps", "chunk", "done"]


async def test_flushes_are_answered_in_order_even_when_nothing_waits() -> None:
    async with running(SineService()) as server, connect(url(server)) as socket:
        await send(socket, request("a", "", more=True, flush=True))
        await send(socket, request("a", "xx", more=True, flush=True), request("a", "", more=True, flush=True))
        await send(socket, request("a", "xxx"))
        heard = (await until_ended(socket, "a"))["a"]
    assert kinds(heard) == ["flush_done", "chunk", "flush_done", "chunk", "done"]
    assert [m["flush_id"] for m in heard if m["type"] == "flush_done"] == [1, 2, 3]
    assert [m["flush_id"] for m in heard if m["type"] == "chunk"] == [2, 4]
    assert not any(m["done"] for m in heard[:-1])


async def test_held_back_text_is_flushed_after_the_delay_and_at_once_without_one() -> None:
    service = SineService()
    async with running(service) as server, connect(url(server)) as socket:
        await send(socket, request("now", "xx", more=True, max_buffer_delay_ms=0))
        await eventually(lambda: service.flushes == 1)
        began = time.monotonic()
        await send(socket, request("later", "xx", more=True, max_buffer_delay_ms=300))
        await asyncio.sleep(0.2)
        await send(socket, request("later", "xx", more=True, max_buffer_delay_ms=300))
        await eventually(lambda: service.flushes == 2)
        assert time.monotonic() - began >= 0.5
        await send(socket, request("now", ""), request("later", ""))
        heard = await until_ended(socket, "now", "later")
        assert all(kinds(messages) == ["chunk", "done"] for messages in heard.values()), "nobody asked for flush_done"


@pytest.mark.parametrize(
    ("changes", "code", "status"),
    [
        ({"output_format": RAW | {"sample_rate": 7}}, "invalid_parameter", 422),
        ({"output_format": RAW | {"container": "tape"}}, "invalid_parameter", 422),
        ({"output_format": "loud"}, "invalid_parameter", 422),
        ({"voice": "nobody"}, "not_found", 404),
        ({"model_id": "gpt-9"}, "not_found", 404),
        ({"transcript": 5}, "invalid_parameter", 422),
        ({"transcript": "x" * 60}, "input_too_long", 413),
        ({"max_buffer_delay_ms": 5001}, "invalid_parameter", 422),
        ({"cancel": 1, "context_id": 7}, "invalid_parameter", 422),
    ],
)
async def test_an_error_ends_its_context_and_no_other(changes: dict[str, Any], code: str, status: int) -> None:
    async with running(SineService(), max_stream_chars=50) as server, connect(url(server)) as socket:
        await send(socket, request("good", "xx", more=True), request("bad", "x") | changes)
        while (message := await receive(socket))["type"] != "error":
            assert message["context_id"] == "good"
        assert message["context_id"] == (None if "context_id" in changes else "bad")
        assert (message["error_code"], message["status_code"], message["done"]) == (code, status, True)
        assert message["title"]
        assert message["message"]
        assert message["error"]
        await send(socket, request("good", "x"))
        heard = (await until_ended(socket, "good"))["good"]
        assert heard[-1]["type"] == "done"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{nonsense", 1007),
        ("[1]", 1007),
        ("null", 1007),
        ("[" * 20_000, 1007),
        (b"\x00\xff", 1003),
        ('{"transcript":"' + "x" * 70_000 + '"}', 1009),
    ],
)
async def test_hostile_frames_end_the_connection_and_free_its_slots(frame: str | bytes, code: int) -> None:
    service = SineService()
    async with running(service) as server:
        async with connect(url(server)) as socket:
            await send(socket, request("a", "xx", more=True))
            await receive(socket)
            await socket.send(frame)
            assert await closed(socket) == code
        await eventually(lambda: service.in_use == 0)
        assert (await server.http.get("/health/ready")).json()["slots_in_use"] == 0


async def test_contexts_are_bounded_and_capacity_is_told_to_the_context() -> None:
    service = SineService()
    async with running(service, ws_max_contexts=MODEL.slots + 1) as server, connect(url(server)) as socket:
        for number in range(MODEL.slots + 2):
            await send(socket, request(str(number), "x", more=True))
        errors = []
        while len(errors) < 2:
            message = await receive(socket)
            if message["type"] == "error":
                errors.append((message["context_id"], message["error_code"], message["status_code"]))
        assert ("4", "over_capacity", 503) in errors
        assert len(errors) == 2
        await send(socket, {"context_id": "0", "cancel": True}, request("again", "x"))
        while (message := await receive(socket))["context_id"] != "again" or not message["done"]:
            pass
        assert message["type"] == "done"


async def test_cut_audio_and_failures_are_never_done() -> None:
    service = SineService(Script(reason=FinishReason.LENGTH))
    async with running(service) as server, connect(url(server)) as socket:
        await send(socket, request("a", "xx"))
        heard = (await until_ended(socket, "a"))["a"]
        assert (heard[-1]["type"], heard[-1]["error_code"]) == ("error", "length")
        service.script = Script(fail_after_chunks=1)
        await send(socket, request("b", "x", more=True), request("b", "x"))
        heard = (await until_ended(socket, "b"))["b"]
        assert (heard[-1]["type"], heard[-1]["status_code"]) == ("error", 500)
        assert "secret" not in json.dumps(heard)


async def test_idle_contexts_lose_their_slot_and_idle_connections_end() -> None:
    service = SineService()
    limits = {"ws_idle_timeout_s": 0.4, "ws_unused_timeout_s": 0.4}
    async with running(service, **limits) as server, connect(url(server)) as socket:
        await send(socket, request("a", "x", more=True), request("b", "x", more=True))
        for _ in range(4):
            await asyncio.sleep(0.15)
            await send(socket, request("b", "x", more=True))
        heard = await until_ended(socket, "a", "b")
        assert [heard[name][-1]["error_code"] for name in "ab"] == ["idle_timeout"] * 2
        assert service.in_use == 0
        assert (await receive(socket))["error_code"] == "idle_timeout"
        assert await closed(socket) == 1008


async def test_a_key_may_come_as_a_header_or_in_the_query() -> None:
    async with running(SineService(), api_key=("k",)) as server:
        for headers, query in (({"X-API-Key": "k"}, ""), ({"Authorization": "Bearer k"}, ""), ({}, "?api_key=k")):
            async with connect(url(server, query), additional_headers=headers) as socket:
                await send(socket, request("a", "x"))
                assert (await until_ended(socket, "a"))["a"][-1]["type"] == "done"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(server, "?api_key=wrong"))
        assert refused.value.response.status_code == 401


async def test_a_listener_who_stops_reading_loses_every_slot() -> None:
    service = SineService(Script(endless=True, frames_per_char=200))
    async with running(service, ws_send_timeout_s=0.3) as server:
        socket = await connect(url(server), max_queue=1)
        await send(socket, request("a", "abc"), request("b", "abc"))
        await eventually(lambda: len(service.utterances) == 2 and service.in_use == 0)
        socket.transport.abort()


async def test_an_abrupt_disconnect_frees_every_slot() -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service) as server:
        socket = await connect(url(server))
        await send(socket, request("a", "abc", more=True), request("b", "abc", more=True))
        await receive(socket)
        socket.transport.abort()
        await eventually(lambda: len(service.utterances) == 2 and service.in_use == 0)


# With a real engine.

WORDS = "some words to learn from and some more words that follow "


async def test_barge_in_silences_at_once_and_others_go_on(
    load: Load, streaming_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, CartesiaSession, lambda message: bool(message.get("cancel")))
    async with running(load(streaming_folder)) as server, connect(url(server)) as socket:
        await send(socket, request("a", WORDS * 20), request("b", WORDS, seed=3))
        while (await receive(socket))["context_id"] != "a":
            pass
        await send(socket, {"context_id": "a", "cancel": True})
        while (message := await receive(socket))["context_id"] != "a" or message["type"] == "chunk":
            pass
        assert message["type"] == "done"
        assert (await receive(socket))["type"] == "chunk", "the other one still speaks"
        await send(socket, {"context_id": "b", "cancel": True})
        assert (await until_ended(socket, "b"))["b"][-1]["type"] == "done"
        stats = server.app.state.sled.service.engine_stats
        await eventually(lambda: sum(one.in_use for one in stats().values()) == 0)
    of_a = [message["type"] for message in seen.after() if message["context_id"] == "a"]
    assert of_a == ["done"]


async def test_flush_and_rates_with_a_real_engine(load: Load, streaming_folder: Path) -> None:
    mulaw = {"container": "raw", "encoding": "pcm_mulaw", "sample_rate": 8_000}
    async with running(load(streaming_folder)) as server, connect(url(server)) as socket:
        await send(socket, request("a", "so", more=True, flush=True, seed=1))
        first = [await receive(socket)]
        while first[-1]["type"] != "flush_done":
            first.append(await receive(socket))
        assert pcm(first)
        await send(socket, request("a", "to"))
        rest = (await until_ended(socket, "a"))["a"]
        # This checkpoint knows no end: its length limit is what a whole utterance ends with.
        assert (kinds(rest), rest[-1]["error_code"]) == (["chunk", "error"], "length")
        await send(socket, request("b", "so", seed=1, output_format=mulaw))
        b = (await until_ended(socket, "b"))["b"]
        assert len(pcm(b)) == pytest.approx(len(pcm(first)) / 4, abs=8)
        await send(socket, request("c", "so", seed=1))
        same = (await until_ended(socket, "c"))["c"]
        assert np.array_equal(np.frombuffer(pcm(first), "<i2"), np.frombuffer(pcm(same), "<i2"))
