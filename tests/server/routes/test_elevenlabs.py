"""ElevenLabs' WebSockets over a real socket: contexts, keepalive, flush, close, alignment, faults."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import av
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from sled_tts.server.engine.request import FinishReason
from sled_tts.server.routes.elevenlabs import ElevenLabsSession
from tests.server.routes.conftest import Load
from tests.server.routes.fakes import HOP, MODEL, RATE, Script, SineService
from tests.server.routes.loopback import Running, closed, connect, eventually, running, send
from tests.server.routes.watching import watch

PCM = "output_format=pcm_16000"


def url(server: Running, query: str = PCM, kind: str = "multi-stream-input", voice: str = "default") -> str:
    return f"ws://127.0.0.1:{server.port}/v1/text-to-speech/{voice}/{kind}?{query}"


async def receive(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def until_final(socket: ClientConnection, *context_ids: str) -> dict[str, list[dict[str, Any]]]:
    """Messages by context, until each has had its `isFinal` or an error."""
    heard: dict[str, list[dict[str, Any]]] = {one: [] for one in context_ids}
    while not all(m and ("isFinal" in m[-1] or "error" in m[-1]) for m in heard.values()):
        message = await receive(socket)
        heard[message["contextId"]].append(message)
    return heard


def pcm(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(m["audio"]) for m in messages if m.get("audio"))


def aligned(messages: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    found = []
    for message in messages:
        if one := message.get("alignment"):
            assert message["normalizedAlignment"] == one
            columns = one["chars"], one["charStartTimesMs"], one["charDurationsMs"]
            assert len({len(column) for column in columns}) == 1
            found += list(zip(*columns, strict=True))
    return found


def text(context_id: str, words: str, **more: Any) -> dict[str, Any]:
    return {"context_id": context_id, "text": words} | more


async def test_contexts_side_by_side_drain_after_flush_and_close() -> None:
    service = SineService()
    async with running(service) as server, connect(url(server)) as socket:
        await send(socket, text("a", " "), text("b", " "), text("a", "xx "), text("b", "yyyyy "), text("a", "x "))
        for one in "ab":
            await send(socket, {"context_id": one, "flush": True}, {"context_id": one, "close_context": True})
        heard = await until_final(socket, "a", "b")
    assert (len(pcm(heard["a"])), len(pcm(heard["b"]))) == (5 * HOP * 2, 6 * HOP * 2)
    assert [m[-1] for m in heard.values()] == [{"audio": None, "isFinal": True, "contextId": one} for one in "ab"]
    assert "".join(char for char, _, _ in aligned(heard["a"])) == "xx x "
    assert service.in_use == 0


async def test_empty_text_keeps_a_context_alive_and_a_closed_one_is_forgotten() -> None:
    service = SineService()
    async with running(service) as server, connect(url(server, f"{PCM}&inactivity_timeout=0.4")) as socket:
        await send(socket, text("a", "x"), text("b", "x"))
        for _ in range(5):
            await asyncio.sleep(0.15)
            await send(socket, text("a", ""))
        await send(socket, text("a", "yy", flush=True), {"context_id": "a", "close_context": True})
        heard = await until_final(socket, "a", "b")
        assert len(pcm(heard["a"])) == 3 * HOP * 2
        assert (heard["b"][-1]["error"], heard["b"][-1]["code"]) == ("idle_timeout", 1008)
        await send(socket, {"context_id": "a", "close_context": True}, {"context_id": "z", "flush": True})
        await send(socket, text("a", "again", flush=True), {"context_id": "a", "close_context": True})
        assert len(pcm((await until_final(socket, "a"))["a"])) == 5 * HOP * 2
        assert len(service.utterances) == 3


async def test_a_context_that_said_nothing_is_final_and_takes_no_slot() -> None:
    service = SineService()
    async with running(service) as server, connect(url(server)) as socket:
        await send(socket, text("a", " "), {"context_id": "a", "close_context": True})
        assert await receive(socket) == {"audio": None, "isFinal": True, "contextId": "a"}
        assert service.utterances == []


async def test_close_aborts_without_flush_and_the_second_time() -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service) as server, connect(url(server)) as socket:
        await send(socket, text("a", "x"))
        await receive(socket)
        await send(socket, {"context_id": "a", "close_context": True})
        assert (await until_final(socket, "a"))["a"][-1]["isFinal"]
        await send(socket, text("b", "x", flush=True), {"context_id": "b", "close_context": True})
        for _ in range(5):
            assert (await receive(socket))["audio"]
        await send(socket, {"context_id": "b", "close_context": True})
        assert (await until_final(socket, "b"))["b"][-1]["isFinal"]
        await eventually(lambda: service.in_use == 0)
        await send(socket, text("c", ""), {"context_id": "c", "text": "", "flush": True})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await socket.recv()


async def test_auto_mode_separates_phrases_and_speaks_each_at_once() -> None:
    service = SineService()
    async with running(service) as server:
        for query, expected, flushes in (("auto_mode=true", "One. Two. Three.", 3), ("", "One.Two. Three.", 0)):
            service.flushes = 0
            async with connect(url(server, f"{PCM}&{query}", "stream-input")) as socket:
                await send(socket, *({"text": one} for one in (" ", "One.", "Two. ", "Three.", "")))
                messages = [await receive(socket)]
                while not messages[-1].get("isFinal"):
                    messages.append(await receive(socket))
                assert messages[-1] == {"audio": None, "isFinal": True}
                assert await closed(socket) == 1000
            assert "".join(char for char, _, _ in aligned(messages)) == expected
            assert service.flushes == flushes


@pytest.mark.parametrize("absolute", [True, False])
async def test_times_from_the_context_or_from_the_message(absolute: bool) -> None:
    async with running(SineService()) as server:
        query = f"{PCM}&sync_alignment={str(absolute).lower()}"
        async with connect(url(server, query)) as socket:
            messages = []
            for _ in range(3):
                await send(socket, text("a", "four", flush=True))
                messages.append(await receive(socket))
            await send(socket, {"context_id": "a", "close_context": True})
            messages += (await until_final(socket, "a"))["a"]
    step, clock = 4 * HOP * 1000 // RATE, 0
    spans = [m["alignment"] for m in messages if m.get("alignment")]
    for one in spans:
        if absolute:
            assert one["charStartTimesMs"][0] >= clock
        else:
            assert one["charStartTimesMs"][0] == 0
        end = one["charStartTimesMs"][-1] + one["charDurationsMs"][-1]
        clock = end if absolute else clock + end
    assert clock == 3 * step


async def test_close_socket_ends_soon_with_1000() -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service) as server, connect(url(server)) as socket:
        await send(socket, text("a", "x"), text("b", "x", flush=True), {"context_id": "b", "close_context": True})
        await receive(socket)
        started = time.monotonic()
        await send(socket, {"close_socket": True})
        assert await closed(socket) == 1000
        assert time.monotonic() - started < 2
        await eventually(lambda: service.in_use == 0)
    async with running(SineService()) as server, connect(url(server)) as socket:
        await send(socket, {"close_socket": True})
        assert await closed(socket) == 1000


@pytest.mark.parametrize(
    ("output", "decoded"),
    [("mp3_22050_32", 0), ("mp3_44100_192", 0), ("opus_48000_64", 0), ("ulaw_8000", 8_000), ("pcm_8000", 16_000)],
)
async def test_formats(output: str, decoded: int) -> None:
    async with running(SineService()) as server, connect(url(server, f"output_format={output}")) as socket:
        # A flush in the middle: what follows belongs to the same file.
        await send(socket, text("a", "x" * 20, flush=True), text("a", "x" * 30, flush=True))
        await send(socket, {"context_id": "a", "close_context": True})
        data = pcm((await until_final(socket, "a"))["a"])
    if decoded:
        assert len(data) == pytest.approx(50 * HOP / RATE * decoded, abs=8)
    else:
        with av.open(io.BytesIO(data)) as file:
            heard = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
        assert heard == pytest.approx(50 * HOP / RATE, abs=0.12)


@pytest.mark.parametrize(
    ("query", "voice", "status"),
    [
        ("output_format=wav_1", "default", 422),
        ("inactivity_timeout=181", "default", 422),
        (f"{PCM}&model_id=other", "default", 404),
        (PCM, "21m00Tcm4TlvDq8ikWAM", 404),
    ],
)
async def test_refused_at_the_handshake(query: str, voice: str, status: int) -> None:
    async with running(SineService()) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(server, query, voice=voice))
        assert refused.value.response.status_code == status
        assert b"message" in refused.value.response.body


async def test_their_voices_where_the_operator_allows_them() -> None:
    async with running(SineService(), accept_unknown_voices=True) as server:
        query = f"{PCM}&model_id=eleven_turbo_v2_5"
        async with connect(url(server, query, voice="21m00Tcm4TlvDq8ikWAM")) as socket:
            await send(socket, text("a", "x", flush=True), {"context_id": "a", "close_context": True})
            assert pcm((await until_final(socket, "a"))["a"])


async def test_keys_in_header_or_first_message() -> None:
    async with running(SineService(), api_key=("k",)) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(server), additional_headers={"xi-api-key": "wrong"})
        assert refused.value.response.status_code == 401
        async with connect(url(server), additional_headers={"xi-api-key": "k"}) as socket:
            await send(socket, text("a", "x", flush=True), {"context_id": "a", "close_context": True})
            assert pcm((await until_final(socket, "a"))["a"])
        for first in ({"xi_api_key": "k"}, {"xi-api-key": "k"}, {"authorization": "Bearer k"}):
            async with connect(url(server, kind="stream-input")) as socket:
                await send(socket, {"text": " "} | first, {"text": "x"}, {"text": ""})
                assert (await receive(socket))["audio"]
                assert await closed(socket) == 1000
        for first in ({"xi_api_key": "wrong"}, {}, {"authorization": "Bearer "}):
            async with connect(url(server)) as socket:
                await send(socket, text("a", "x") | first)
                assert (await receive(socket))["error"] == "unauthorized"
                assert await closed(socket) == 1008
        assert (await server.http.post("/v1/text-to-speech/default", json={"text": "x"})).status_code == 401


@pytest.mark.parametrize(
    ("frame", "code"),
    [("{", 1007), ("[1]", 1007), ("[" * 20_000, 1007), (b"\x00", 1003), ('{"text":"' + "x" * 70_000 + '"}', 1009)],
)
async def test_hostile_frames_end_the_connection_and_free_its_slots(frame: str | bytes, code: int) -> None:
    service = SineService()
    async with running(service) as server:
        async with connect(url(server)) as socket:
            await send(socket, text("a", "xx"))
            await receive(socket)
            await socket.send(frame)
            assert await closed(socket) == code
        await eventually(lambda: service.in_use == 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": 5},
        {"text": {"a": 1}},
        {"text": "x", "flush": "perhaps"},
        {"text": "x", "voice_settings": {"speed": 9}},
        {"text": "x", "voice_settings": []},
        {"text": "x" * 20_000},
    ],
)
async def test_wrong_fields_end_their_context_only(wrong: dict[str, Any]) -> None:
    service = SineService()
    async with running(service, max_stream_chars=10_000) as server:
        async with connect(url(server)) as socket:
            await send(socket, text("good", "x"), {"context_id": "bad"} | wrong)
            while "error" not in (message := await receive(socket)):
                assert message["contextId"] == "good"
            assert (message["contextId"], message["code"]) == ("bad", 1008)
            await send(socket, text("good", "x", flush=True), {"context_id": "good", "close_context": True})
            assert (await until_final(socket, "good"))["good"][-1]["isFinal"]
            await send(socket, {"context_id": ["no"], "text": "x"})
            assert (await receive(socket))["error"] == "invalid_parameter"
        async with connect(url(server, kind="stream-input")) as socket:
            await send(socket, wrong)
            assert (await receive(socket))["code"] == 1008
            assert await closed(socket) in (1008, 1009)


async def test_contexts_are_bounded_and_capacity_is_told_to_the_context() -> None:
    service = SineService()
    async with running(service, ws_max_contexts=MODEL.slots + 1) as server, connect(url(server)) as socket:
        errors = {}
        await send(socket, *(text(str(number), "x") for number in range(MODEL.slots + 1)))
        while not errors:
            message = await receive(socket)
            errors |= {message["contextId"]: message["error"]} if "error" in message else {}
        await send(socket, text("p", " "), text("q", " "))
        while len(errors) < 2:
            message = await receive(socket)
            errors |= {message["contextId"]: message["error"]} if "error" in message else {}
    assert errors == {str(MODEL.slots): "over_capacity", "q": "input_too_long"}


async def test_cut_audio_and_failures_are_never_final() -> None:
    service = SineService(Script(reason=FinishReason.LENGTH))
    async with running(service) as server, connect(url(server)) as socket:
        for script, error in (
            (Script(reason=FinishReason.LENGTH), "length"), (Script(fail_after_chunks=0), "internal_error"),
        ):  # fmt: skip
            service.script = script
            await send(socket, text("a", "x", flush=True), {"context_id": "a", "close_context": True})
            heard = (await until_final(socket, "a"))["a"]
            assert heard[-1]["error"] == error
            assert "secret" not in json.dumps(heard)


async def test_silence_ends_a_single_stream() -> None:
    service = SineService()
    async with running(service) as server:
        async with connect(url(server, f"{PCM}&inactivity_timeout=0.3", "stream-input")) as socket:
            await send(socket, {"text": "x"})
            while "error" not in (message := await receive(socket)):
                pass
            assert message["error"] == "idle_timeout"
            assert await closed(socket) == 1008
        await eventually(lambda: service.in_use == 0)


async def test_listeners_who_stop_reading_or_vanish_lose_every_slot() -> None:
    service = SineService(Script(endless=True, frames_per_char=200))
    async with running(service, ws_send_timeout_s=0.3) as server:
        socket = await connect(url(server), max_queue=1)
        await send(socket, text("a", "abc"), text("b", "abc"))
        await eventually(lambda: len(service.utterances) == 2 and service.in_use == 0)
        socket.transport.abort()
        service.script = Script(endless=True, chunk_delay_s=0.01)
        socket = await connect(url(server))
        await send(socket, text("a", "abc"), text("b", "abc"))
        await receive(socket)
        socket.transport.abort()
        await eventually(lambda: len(service.utterances) == 4 and service.in_use == 0)


# With a real engine.

WORDS = "some words to learn from and some more words that follow "


async def test_barge_in_silences_at_once_and_others_go_on(
    load: Load, streaming_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch, ElevenLabsSession, lambda message: bool(message.get("close_context")))
    async with running(load(streaming_folder)) as server, connect(url(server)) as socket:
        await send(socket, text("a", WORDS * 20), text("b", WORDS * 20))
        while (await receive(socket))["contextId"] != "a":
            pass
        await send(socket, {"context_id": "a", "close_context": True})
        while "isFinal" not in (message := await receive(socket)):
            pass
        assert message["contextId"] == "a"
        assert (await receive(socket))["contextId"] == "b"
        await send(socket, {"close_socket": True})
        assert await closed(socket) == 1000
        stats = server.app.state.sled.service.engine_stats
        await eventually(lambda: sum(one.in_use for one in stats().values()) == 0)
    of_a = [message for message in seen.after() if message["contextId"] == "a"]
    assert [message.get("isFinal") for message in of_a] == [True]
