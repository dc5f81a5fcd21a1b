"""What clients do on WebSockets that is odd and yet meant: each exchange once failed, or told its client wrongly."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.server.routes.conftest import Load
from tests.server.routes.fakes import HOP, RATE, Script, SineService
from tests.server.routes.loopback import Running, connect, hear, running, send, speak

RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE}
CARTESIA: dict[str, Any] = {"model_id": "sonic-3", "transcript": "abc", "voice": "default", "output_format": RAW}
DEEPGRAM = f"/v1/speak?encoding=linear16&sample_rate={RATE}"
ELEVENLABS = f"/v1/text-to-speech/default/multi-stream-input?output_format=pcm_{RATE}"
FRAME = HOP * 2


def url(server: Running, path: str) -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


async def told(socket: ClientConnection, **end: Any) -> tuple[bytes, list[dict[str, Any]]]:
    """Audio, of binary frames or of fields, and the other messages, up to one with these fields."""
    audio, messages = b"", []
    async with asyncio.timeout(60):
        while True:
            frame = await socket.recv()
            if isinstance(frame, bytes):
                audio += frame
                continue
            message = json.loads(frame)
            if data := message.get("audio") or message.get("data"):
                audio += base64.b64decode(data)
            elif not isinstance(message.get("alignment"), dict):
                messages.append(message)
            if end.items() <= message.items():
                return audio, messages


async def test_a_turn_of_an_unknown_script_is_answered_and_the_next_one_spoken(
    load: Load, streaming_folder: Path
) -> None:
    async with running(load(streaming_folder)) as server, connect(url(server, DEEPGRAM)) as socket:
        turn = [{"type": "Speak", "text": "漢字"}, {"type": "Flush"}]
        await send(socket, *turn, {"type": "Speak", "text": "some words"}, {"type": "Flush"})
        audio, messages = await told(socket, type="Flushed", sequence_id=0)
        assert [m["type"] for m in messages] == ["Metadata", "Warning", "Flushed"]
        assert not audio
        audio, messages = await told(socket, type="Flushed", sequence_id=1)
        assert audio
        # These words are cut at their limit: this checkpoint never stops by itself.
        assert {m["type"] for m in messages} <= {"Warning", "Flushed"}


async def test_marks_after_a_flush_are_not_spoken(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder)) as server, connect(server.ws_url) as socket:
        await send(socket, {"type": "start", "seed": 1}, {"type": "text", "text": "some words"}, {"type": "flush"})
        assert (await hear(socket, ["flushed"])).pcm
        for marks in (".", " - ", "...", '"'):
            await send(socket, {"type": "text", "text": marks}, {"type": "flush"})
            assert not (await hear(socket, ["flushed"])).pcm
        await send(socket, {"type": "text", "text": "some"}, {"type": "end"})
        assert (await hear(socket)).pcm


@pytest.mark.parametrize("path", [DEEPGRAM, ELEVENLABS, "/tts/websocket", "/v1/stream"])
async def test_half_an_emoji_costs_nobody_the_connection(path: str) -> None:
    half = {"text": "\ud83d", "type": "Speak", "context_id": "a"}
    whole = {"text": "abc", "type": "Speak", "context_id": "a", "flush": True}
    ends: dict[str, list[dict[str, Any]]] = {
        DEEPGRAM: [half, whole, {"type": "Flush"}],
        ELEVENLABS: [half, whole, {"context_id": "a", "close_context": True}],
        "/tts/websocket": [
            CARTESIA | {"context_id": "a", "continue": True, "transcript": "\ud83d"},
            CARTESIA | {"context_id": "a"},
        ],
        "/v1/stream": [{"type": "start"}, {"type": "text", "text": "\ud83d"}, {"type": "text", "text": "abc"}],
    }
    last = {DEEPGRAM: {"type": "Flushed"}, ELEVENLABS: {"isFinal": True}, "/tts/websocket": {"type": "done"}}
    service = SineService()
    async with running(service) as server, connect(url(server, path)) as socket:
        await send(socket, *ends[path])
        if path == "/v1/stream":
            await send(socket, {"type": "end"})
        audio, _ = await told(socket, **last.get(path, {"type": "done"}))
        assert len(audio) == 3 * FRAME


async def test_one_message_may_open_speak_and_close_a_context() -> None:
    async with running(SineService()) as server, connect(url(server, ELEVENLABS)) as socket:
        await send(socket, {"context_id": "a", "text": "abc", "flush": True, "close_context": True})
        audio, _ = await told(socket, isFinal=True, contextId="a")
        assert len(audio) == 3 * FRAME


async def test_an_end_that_is_said_twice_cuts_nothing() -> None:
    service = SineService(Script(chunk_delay_s=0.3))
    async with running(service) as server, connect(url(server, "/tts/websocket")) as socket:
        end = CARTESIA | {"context_id": "a", "transcript": ""}
        await send(socket, CARTESIA | {"context_id": "a", "continue": True}, end, end | {"transcript": " "})
        audio, messages = await told(socket, context_id="a", done=True)
        assert (len(audio), messages[-1]["type"]) == (3 * FRAME, "done")


async def test_later_requests_of_a_context_need_text_alone() -> None:
    async with running(SineService()) as server, connect(url(server, "/tts/websocket")) as socket:
        await send(socket, CARTESIA | {"context_id": "a", "continue": True})
        await send(socket, {"context_id": "a", "continue": True, "transcript": "de", "voice": None})
        await send(socket, {"context_id": "a", "transcript": ""})
        audio, messages = await told(socket, context_id="a", done=True)
        assert (len(audio), messages[-1]["type"]) == (5 * FRAME, "done")
        # A second header would follow every flush.
        await send(socket, CARTESIA | {"context_id": "b", "output_format": RAW | {"container": "wav"}})
        _, messages = await told(socket, context_id="b", done=True)
        assert (messages[-1]["type"], messages[-1]["param"]) == ("error", "output_format.container")


async def test_a_wrong_address_is_no_wrong_key() -> None:
    async with running(SineService()) as server:
        for path in ("/v1/stream/", "/v1/text-to-dialogue/multi-stream-input", "/v1/audio/speech", "/"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url(server, path))
            assert refused.value.response.status_code == 404
            assert "/v1/stream" in json.loads(refused.value.response.body)["error"]["message"]
        for path in ("/v1/stream", "/tts/websocket", "/v1/text-to-speech/default/stream-input"):
            answer = await server.http.get(path)
            assert answer.status_code == 404
            assert "ws://" in answer.json()["error"]["message"]
        async with connect(server.ws_url) as socket:
            assert (await speak(socket, ["a"])).of("done")


@pytest.mark.parametrize(("query", "key"), [("?model=nobödy%0Ax", "k"), ("?encoding=mp3", "k"), ("", "wrong")])
async def test_deepgrams_clients_are_told_why_in_a_header(query: str, key: str) -> None:
    async with running(SineService(), api_key=("k",)) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(server, f"/v1/speak{query}"), additional_headers={"Authorization": f"Token {key}"})
    reason = refused.value.response.headers["dg-error"]
    assert reason.isascii()
    assert any(word in reason for word in ("nob", "encoding", "key"))


@pytest.mark.parametrize(("offered", "answer"), [(["token", "k"], "token"), (["bearer", "k"], "bearer"), (["k"], None)])
async def test_a_browser_may_bring_its_key_as_a_subprotocol(offered: list[str], answer: str | None) -> None:
    protocols = [Subprotocol(name) for name in offered]
    async with running(SineService(), api_key=("k",)) as server:
        if answer is None:
            with pytest.raises(InvalidStatus):
                await connect(url(server, DEEPGRAM), subprotocols=protocols)
            return
        async with connect(url(server, DEEPGRAM), subprotocols=protocols) as socket:
            assert socket.subprotocol == answer
            await send(socket, {"type": "Speak", "text": "abc"}, {"type": "Flush"})
            assert len((await told(socket, type="Flushed"))[0]) == 3 * FRAME
        with pytest.raises(InvalidStatus):
            await connect(url(server, DEEPGRAM), subprotocols=[Subprotocol("token"), Subprotocol("wrong")])
    async with running(SineService()) as server, connect(server.ws_url, subprotocols=protocols) as socket:
        assert socket.subprotocol == answer
        assert (await speak(socket, ["a"])).of("done")


@pytest.mark.parametrize("path", [DEEPGRAM, ELEVENLABS, "/tts/websocket", "/v1/stream"])
async def test_a_connection_is_kept_from_turn_to_turn(path: str) -> None:
    turns: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
        DEEPGRAM: ([{"type": "Speak", "text": "abc"}, {"type": "Flush"}], {"type": "Flushed"}),
        ELEVENLABS: ([{"context_id": "a", "text": "abc", "flush": True, "close_context": True}], {"isFinal": True}),
        "/tts/websocket": ([CARTESIA | {"context_id": "a"}], {"type": "done"}),
        "/v1/stream": ([{"type": "start"}, {"type": "text", "text": "abc"}, {"type": "end"}], {"type": "done"}),
    }
    turn, end = turns[path]
    async with running(SineService(), ws_idle_timeout_s=0.2) as server:
        async with connect(url(server, path)) as socket:
            for _ in range(2):
                await asyncio.sleep(0.5)
                await send(socket, *turn)
                audio, messages = await told(socket, **end)
                assert len(audio) == 3 * FRAME
                assert not [m for m in messages if "error" in m or m.get("type") == "Error"]
        if path == ELEVENLABS:
            # Its clients say themselves how long a context may wait.
            return
        async with connect(url(server, path)) as socket:
            # What awaits more text holds a slot, and is not waited for as long.
            more = [message | ({"continue": True} if "transcript" in message else {}) for message in turn]
            await send(socket, *[message for message in more if message.get("type") not in ("Flush", "end")])
            _, messages = await told(socket, type="Error" if path == DEEPGRAM else "error")
            assert "idle_timeout" in json.dumps(messages)
