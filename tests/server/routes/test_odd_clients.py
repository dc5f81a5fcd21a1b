"""What clients do that is odd and yet meant: each exchange once failed, or told its client wrongly."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.server.audio.decoding import hear
from tests.server.routes.conftest import Load
from tests.server.routes.fakes import HOP, RATE, Script, SineService
from tests.server.routes.loopback import Running, connect, eventually, running, send, speak
from tests.server.routes.loopback import hear as hear_native

SPEECH = "/v1/audio/speech"
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
        assert (await hear_native(socket, ["flushed"])).pcm
        for marks in (".", " - ", "...", '"'):
            await send(socket, {"type": "text", "text": marks}, {"type": "flush"})
            assert not (await hear_native(socket, ["flushed"])).pcm
        await send(socket, {"type": "text", "text": "some"}, {"type": "end"})
        assert (await hear_native(socket)).pcm


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


@pytest.mark.parametrize("encoding", ["pcm_s16le", "pcm_f32le", "pcm_mulaw", "pcm_alaw"])
async def test_a_wav_holds_what_was_asked_for(encoding: str) -> None:
    wanted = {"container": "wav", "encoding": encoding, "sample_rate": RATE}
    async with running(SineService()) as server:
        answer = await server.http.post("/tts/bytes", json=CARTESIA | {"output_format": wanted})
        assert answer.headers["content-type"] == "audio/wav"
        heard = hear(answer.content)
        sent = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * HOP) / RATE)
        assert heard.rate == RATE
        assert np.abs(heard.pcm - sent).max() < (0.02 if "law" in encoding else 1e-3)
        if "law" in encoding:
            query = f"encoding={encoding.removeprefix('pcm_')}&container=wav&sample_rate={RATE}"
            other = await server.http.post(f"/v1/speak?{query}", json={"text": "abc"})
            assert other.content == answer.content


@pytest.mark.parametrize("wanted", ["pcm_32000", "wav_8000", "wav_32000", "wav_48000"])
async def test_formats_that_their_package_lists(wanted: str) -> None:
    async with running(SineService()) as server:
        answer = await server.http.post(f"/v1/text-to-speech/default?output_format={wanted}", json={"text": "abc"})
    rate = int(wanted.split("_")[1])
    samples = hear(answer.content).pcm.size if wanted.startswith("wav") else len(answer.content) // 2
    assert samples == 3 * HOP * rate // RATE


async def test_nobody_waits_for_timestamps_any_more() -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service) as server:
        path = "/v1/text-to-speech/default/with-timestamps"
        asking = asyncio.create_task(server.http.post(path, json={"text": "abc"}))
        await eventually(lambda: service.in_use == 1)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        await eventually(lambda: service.in_use == 0)
        assert 'sled_tts_errors_total{code="' not in (await server.http.get("/metrics")).text, "leaving is no error"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (SPEECH, {"input": "abc", "response_format": "pcm", "sample_rate": 48_000}),
        (SPEECH, {"input": "abc", "response_format": "pcm", "stream_format": "sse"}),
        ("/v1/text-to-speech/default/stream/with-timestamps?output_format=pcm_48000", {"text": "abc"}),
        ("/tts/sse", CARTESIA),
    ],
)
async def test_a_player_that_is_paused_loses_its_slot(path: str, body: dict[str, Any]) -> None:
    service = SineService(Script(endless=True, frames_per_char=500))
    async with running(service, ws_send_timeout_s=0.3) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        writer.write(head.encode() + b"\r\n\r\n" + content)
        assert (await reader.readexactly(12)) == b"HTTP/1.1 200"
        await eventually(lambda: service.in_use == 0)
        assert service.utterances[0].cancelled
        metrics = (await server.http.get("/metrics")).text
        assert 'code="slow_reader"' in metrics
        rest = await reader.read()
        assert not rest.endswith(b"0\r\n\r\n"), "what is not whole has no proper end"
        writer.close()


@pytest.mark.parametrize(
    ("content", "kind", "about"),
    [
        (b'{"input": "abc"}', "application/x-www-form-urlencoded", "application/json"),
        (b'{"input": "abc"}', "text/plain", "application/json"),
        (b'{"input": "\xff"}', "application/json", "UTF-8"),
        (b"[" * 100_000, "application/json", "nested"),
    ],
)
async def test_a_body_that_was_not_read_says_why(content: bytes, kind: str, about: str) -> None:
    async with running(SineService()) as server:
        answer = await server.http.post(SPEECH, content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_json")
    assert about in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (SPEECH, {"input": "a", "voice": {"name": "b"}}, "voice.id"),
        ("/tts/bytes", CARTESIA | {"voice": {"mode": "embedding", "embedding": [0.1]}}, "voice.id"),
        ("/tts/bytes", CARTESIA | {"speed": "warp"}, "speed"),
        ("/tts/bytes", CARTESIA | {"transcript": " "}, "transcript"),
        ("/v1/speak", {"text": " "}, "text"),
    ],
)
async def test_errors_name_the_field_as_the_client_knows_it(path: str, body: dict[str, Any], param: str) -> None:
    async with running(SineService()) as server:
        error = (await server.http.post(path, json=body)).json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(param)


async def test_text_that_cannot_be_spoken_is_called_by_its_field(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder)) as server:
        for path, body, param in (
            (SPEECH, {"input": "..."}, "input"),
            (SPEECH, {"input": "漢字"}, "input"),
            ("/tts/bytes", CARTESIA | {"transcript": "..."}, "transcript"),
            ("/v1/speak", {"text": "..."}, "text"),
        ):
            assert (await server.http.post(path, json=body)).json()["error"]["param"] == param


async def test_a_wrong_address_is_no_wrong_key() -> None:
    async with running(SineService()) as server:
        for path in ("/v1/stream/", "/v1/text-to-dialogue/multi-stream-input", "/v1/audio/speech", "/"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url(server, path))
            assert refused.value.response.status_code == 404
            assert "/v1/stream" in json.loads(refused.value.response.body)["error"]["message"]
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


async def test_deepgrams_rest_says_why_too() -> None:
    async with running(SineService()) as server:
        for query, body in (("?model=nobody", {"text": "a"}), ("?encoding=tape", {"text": "a"}), ("", {"text": ""})):
            answer = await server.http.post(f"/v1/speak{query}", json=body)
            assert answer.headers["dg-error"] == answer.json()["error"]["message"]


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


async def test_voices_by_pages_as_elevenlabs_lists_them(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder)) as server:
        whole = (await server.http.get("/v1/voices")).json()["voices"]
        page: dict[str, Any] = {"next_page_token": None, "has_more": True}
        turned: list[Any] = []
        while page["has_more"]:
            query = {"page_size": 1} | ({"next_page_token": page["next_page_token"]} if page["next_page_token"] else {})
            page = (await server.http.get("/v2/voices", params=query)).json()
            turned += page["voices"]
        assert turned == whole
        assert page["next_page_token"] is None
        assert page["total_count"] == len(whole)
        assert (await server.http.get("/v2/voices?search=nothing%20like%20it")).json()["voices"] == []
        assert (await server.http.get("/v2/voices?page_size=0")).status_code == 422


async def test_probes_may_ask_for_the_head_and_pages_may_read_headers() -> None:
    async with running(SineService(), cors_origin=("https://page.example",)) as server:
        for path in ("/health/live", "/health/ready"):
            answer = await server.http.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
        answer = await server.http.post(SPEECH, json={"input": "a"}, headers={"origin": "https://page.example"})
        exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert {name for name in answer.headers if name.startswith("x-")} <= exposed
        assert "retry-after" in exposed


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


async def test_http_1_0_gets_audio_without_chunks() -> None:
    async with running(SineService()) as server:
        body = json.dumps({"input": "abc", "response_format": "pcm", "sample_rate": RATE}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST {SPEECH} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        received = await reader.read()
        writer.close()
    headers, _, audio = received.partition(b"\r\n\r\n")
    assert b"chunked" not in headers.lower()
    assert httpx.Headers([line.split(b": ", 1) for line in headers.split(b"\r\n")[1:]])["content-type"] == "audio/pcm"
    assert len(audio) == 3 * FRAME
