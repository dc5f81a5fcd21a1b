"""`WS /v1/speak` over a real socket: flush, clear, close, warnings, limits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from sled_tts.server.engine.request import FinishReason
from sled_tts.server.routes.deepgram_session import TurnQueue
from tests.server.routes.fakes import HOP, MODEL, RATE, Script, SineService
from tests.server.routes.loopback import Running, closed, connect, eventually, running, send

FRAME = HOP * 2
FLUSH, CLEAR, CLOSE = {"type": "Flush"}, {"type": "Clear"}, {"type": "Close"}


def url(server: Running, query: str = f"?encoding=linear16&sample_rate={RATE}") -> str:
    return f"ws://127.0.0.1:{server.port}/v1/speak{query}"


def say(text: str) -> dict[str, Any]:
    return {"type": "Speak", "text": text}


async def receive(socket: ClientConnection) -> dict[str, Any] | bytes:
    async with asyncio.timeout(30):
        frame = await socket.recv()
    return frame if isinstance(frame, bytes) else dict(json.loads(frame))


async def hear(socket: ClientConnection, kind: str) -> tuple[bytes, list[dict[str, Any]]]:
    """Audio and messages up to one of this type."""
    audio, messages = b"", []
    while True:
        frame = await receive(socket)
        if isinstance(frame, bytes):
            audio += frame
            continue
        messages.append(frame)
        if frame["type"] == kind:
            return audio, messages


async def test_metadata_first_then_each_flush_after_its_last_byte() -> None:
    service = SineService()
    async with running(service) as server, connect(url(server)) as socket:
        metadata = await receive(socket)
        assert isinstance(metadata, dict)
        assert (metadata["type"], metadata["model_name"], metadata["model_version"]) == ("Metadata", "default", "sine")
        assert len({metadata["request_id"], metadata["model_uuid"]}) == 2
        await send(socket, say("ab "), say("c"), FLUSH, say("dd"), FLUSH)
        first, flushed = await hear(socket, "Flushed")
        second, again = await hear(socket, "Flushed")
        assert (len(first), len(second)) == (4 * FRAME, 2 * FRAME)
        assert [m["sequence_id"] for m in (flushed + again)] == [0, 1]
        assert service.in_use == 0, "between turns no slot is held"
        await send(socket, CLOSE)
        assert await closed(socket) == 1000


async def test_empty_flushes_are_answered_in_their_turn() -> None:
    service = SineService(Script(chunk_delay_s=0.05))
    async with running(service) as server, connect(url(server)) as socket:
        await send(socket, FLUSH)
        audio, messages = await hear(socket, "Flushed")
        assert (audio, messages[-1]["sequence_id"]) == (b"", 0)
        await send(socket, say("abc"), FLUSH, FLUSH, say("  "), FLUSH)
        lengths = [len((await hear(socket, "Flushed"))[0]) for _ in range(3)]
        assert lengths == [3 * FRAME, 0, 0]
        assert len(service.utterances) == 1


async def test_audio_does_not_wait_for_the_flush() -> None:
    async with running(SineService()) as server, connect(url(server)) as socket:
        await receive(socket)
        await send(socket, say("words "))
        assert isinstance(await receive(socket), bytes)


async def test_clear_stops_at_once_and_forgets_its_flushes() -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service) as server, connect(url(server)) as socket:
        await send(socket, say("endless"), FLUSH, say("next"), FLUSH)
        await receive(socket)
        assert isinstance(await receive(socket), bytes)
        await send(socket, CLEAR)
        _, messages = await hear(socket, "Cleared")
        assert [m["type"] for m in messages] == ["Cleared"]
        assert messages[0]["sequence_id"] == 0
        await eventually(lambda: service.in_use == 0)
        service.script = Script()
        await send(socket, say("ab"), FLUSH)
        audio, messages = await hear(socket, "Flushed")
        assert len(audio) == 2 * FRAME, "nothing of what was cleared"
        assert [m["sequence_id"] for m in messages] == [1]
        await send(socket, CLEAR)
        assert (await hear(socket, "Cleared"))[1][-1]["sequence_id"] == 2


async def test_close_speaks_to_the_end_first() -> None:
    service = SineService(Script(chunk_delay_s=0.05))
    async with running(service) as server, connect(url(server)) as socket:
        await receive(socket)
        await send(socket, say("ab"), FLUSH, say("abc"), CLOSE)
        assert len((await hear(socket, "Flushed"))[0]) == 2 * FRAME
        rest = b""
        while len(rest) < 3 * FRAME:
            frame = await receive(socket)
            assert isinstance(frame, bytes)
            rest += frame
        assert await closed(socket) == 1000
        assert service.in_use == 0


async def test_a_stock_voice_is_replaced_with_a_warning() -> None:
    async with running(SineService()) as server, connect(url(server, "?model=aura-2-thalia-en")) as socket:
        _, messages = await hear(socket, "Warning")
        assert [m["type"] for m in messages] == ["Metadata", "Warning"]
        assert messages[-1]["code"] == "voice_substituted"
        assert messages[-1]["warn_msg"] == messages[-1]["description"]
        await send(socket, say("ab"), FLUSH)
        audio, _ = await hear(socket, "Flushed")
        assert len(audio) == pytest.approx(2 * FRAME * 24_000 / RATE, abs=8), "linear16 is 24 kHz by default"


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("?model=nobody", 404, "voice"),
        ("?encoding=mp3", 422, "encoding"),
        ("?sample_rate=1", 422, "sample_rate"),
        ("?sample_rate=x", 422, "sample_rate"),
        ("?speed=9", 422, "speed"),
    ],
)
async def test_a_bad_query_is_an_http_answer(query: str, status: int, param: str) -> None:
    service = SineService()
    async with running(service) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(server, query))
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["error"]["param"] == param


async def test_an_unknown_voice_may_be_replaced_by_setting() -> None:
    async with (
        running(SineService(), accept_unknown_voices=True) as server,
        connect(url(server, "?model=nobody")) as socket,
    ):
        await send(socket, say("a"), FLUSH)
        assert (await hear(socket, "Flushed"))[0]


async def test_a_token_opens_a_server_with_a_key() -> None:
    async with running(SineService(), api_key=("k",)) as server:
        async with connect(url(server), additional_headers={"Authorization": "Token k"}) as socket:
            assert isinstance(await receive(socket), dict)
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(server), additional_headers={"Authorization": "Token wrong"})
        assert refused.value.response.status_code == 401


@pytest.mark.parametrize("message", [{"type": "Sing"}, {}, {"type": {"deep": [1]}}, say("")])
async def test_what_is_not_understood_is_a_warning(message: dict[str, Any]) -> None:
    async with running(SineService()) as server, connect(url(server)) as socket:
        await send(socket, say("ab"), message, FLUSH)
        audio, messages = await hear(socket, "Flushed")
        assert [m["type"] for m in messages] == ["Metadata", "Warning", "Flushed"]
        assert len(audio) == 2 * FRAME


@pytest.mark.parametrize(
    ("frame", "code", "close"),
    [
        ("{nonsense", "bad_json", 1007),
        ("[" * 20_000, "bad_json", 1007),
        (b"\x01", "unknown_message", 1003),
        ('{"type":"Speak"}', "invalid_parameter", 1008),
        ('{"type":"Speak","text":["a"]}', "invalid_parameter", 1008),
        (json.dumps(say("x" * 60)), "input_too_long", 1009),
    ],
)
async def test_faulty_frames_end_the_connection_and_free_the_slot(frame: str | bytes, code: str, close: int) -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service, max_stream_chars=50) as server, connect(url(server)) as socket:
        await send(socket, say("ab"))
        await eventually(lambda: service.in_use == 1)
        await socket.send(frame)
        _, messages = await hear(socket, "Error")
        assert messages[-1]["code"] == code
        assert await closed(socket) == close
        await eventually(lambda: service.in_use == 0)


async def test_over_capacity_and_failures_are_told_and_close() -> None:
    service = SineService()
    async with running(service) as server:
        held = [await connect(url(server)) for _ in range(MODEL.slots)]
        for socket in held:
            await send(socket, say("a"))
        await eventually(lambda: service.in_use == MODEL.slots)
        async with connect(url(server)) as extra:
            await send(extra, say("a"))
            assert (await hear(extra, "Error"))[1][-1]["code"] == "over_capacity"
            assert await closed(extra) == 1013
        service.script = Script(fail_after_chunks=0)
        await send(held[0], CLEAR, say("a"), FLUSH)
        _, messages = await hear(held[0], "Error")
        assert "Flushed" not in [m["type"] for m in messages]
        assert "secret" not in json.dumps(messages)
        assert await closed(held[0]) == 1011
        for socket in held:
            await socket.close()


async def test_audio_that_was_cut_is_told_before_the_flush_is_answered() -> None:
    async with running(SineService(Script(reason=FinishReason.LENGTH))) as server, connect(url(server)) as socket:
        await send(socket, say("ab"), FLUSH)
        _, messages = await hear(socket, "Flushed")
        assert [m["type"] for m in messages] == ["Metadata", "Warning", "Flushed"]
        assert messages[1]["code"] == "length"


async def test_text_that_is_left_out_is_told() -> None:
    async with running(SineService()) as server, connect(url(server)) as socket:
        await send(socket, say("ab"), say("漢字"), say("c"), FLUSH)
        audio, messages = await hear(socket, "Flushed")
        assert [m["type"] for m in messages] == ["Metadata", "Warning", "Flushed"]
        assert messages[1]["code"] == "unsupported_text"
        assert len(audio) == 3 * FRAME


async def test_silence_ends_the_connection_but_not_while_it_listens() -> None:
    service = SineService(Script(chunk_delay_s=0.6))
    limits = {"ws_idle_timeout_s": 0.3, "ws_unused_timeout_s": 0.3}
    async with running(service, **limits) as server, connect(url(server)) as socket:
        await send(socket, say("ab"), FLUSH)
        assert len((await hear(socket, "Flushed"))[0]) == 2 * FRAME
        _, messages = await hear(socket, "Error")
        assert messages[-1]["code"] == "idle_timeout"
        assert await closed(socket) == 1008


async def test_a_disconnect_and_a_slow_reader_free_the_slot() -> None:
    service = SineService(Script(endless=True, frames_per_char=200))
    async with running(service, ws_send_timeout_s=0.3) as server:
        sockets = [await connect(url(server), max_queue=1) for _ in range(2)]
        for socket in sockets:
            await send(socket, say("abc"))
        await eventually(lambda: service.in_use == 2)
        sockets[0].transport.abort()
        await eventually(lambda: len(service.utterances) == 2 and service.in_use == 0)
        sockets[1].transport.abort()


def test_turns_without_a_socket() -> None:
    queue = TurnQueue(100)
    queue.speak("a")
    assert queue.spoken() is None, "an utterance that ended by itself was not flushed"
    queue.flush()
    queue.speak("b")
    queue.close()
    assert not queue.over
    assert queue.spoken() == 0
    assert queue.current is not None
    assert (queue.current.take(), queue.current.take()) == (["b"], [])
    assert queue.spoken() is None
    assert queue.over
