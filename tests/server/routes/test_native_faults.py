"""The native WebSocket against a scripted service: every error, its message and its close code."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from sled_tts.server.engine.request import FinishReason
from tests.server.routes.fakes import MODEL, RATE, Script, SineService
from tests.server.routes.loopback import closed, connect, eventually, hear, ready, running, send, speak


async def _error_of(frames: list[str | bytes], **settings: Any) -> tuple[dict[str, Any], int | None]:
    """Send frames; the error message and the close code that answer them."""
    async with running(SineService(), **settings) as server, connect(server.ws_url) as socket:
        for frame in frames:
            await socket.send(frame)
        heard = await hear(socket, until=("error",))
        return heard.of("error")[0]["error"], await closed(socket)


START = '{"type":"start"}'


@pytest.mark.parametrize(
    ("frames", "code", "param", "close"),
    [
        (["{nonsense"], "bad_json", None, 1007),
        (["[1, 2]"], "bad_json", None, 1007),
        (['{"type":"sing"}'], "unknown_message", "type", 1003),
        ([b"\x00\x01"], "unknown_message", "type", 1003),
        (['{"type":"text","text":"early"}'], "protocol_error", "type", 1002),
        ([START, START], "protocol_error", "type", 1002),
        ([START, '{"type":"text","text":"a"}', '{"type":"text"}'], "invalid_parameter", "text", 1008),
        ([START, '{"type":"text","text":"' + "x" * 60 + '"}'], "input_too_long", "text", 1009),
        ([START, json.dumps({"type": "tokens", "tokens": list(range(60))})], "input_too_long", "tokens", 1009),
        ([START, '{"type":"tokens","tokens":[-1]}'], "invalid_parameter", "tokens.0", 1008),
        (['{"type":"start","voice":"nobody"}'], "not_found", "voice", 1008),
        (['{"type":"start","model":"gpt-9"}'], "not_found", "model", 1008),
        (['{"type":"start","cfg_scale":11}'], "invalid_parameter", "cfg_scale", 1008),
        (['{"type":"start","sed":1}'], "invalid_parameter", "sed", 1008),
        (['{"type":"start","sample_rate":1}'], "invalid_parameter", "sample_rate", 1008),
    ],
)
async def test_errors_name_field_and_close_with_their_code(
    frames: list[str | bytes], code: str, param: str | None, close: int
) -> None:
    error, close_code = await _error_of(frames, max_stream_chars=50)
    assert (error["code"], error["param"], close_code) == (code, param, close)
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]


async def test_messages_beyond_the_size_limit_close_with_1009() -> None:
    async with running(SineService(), ws_max_message_bytes=2000) as server, connect(server.ws_url) as socket:
        await socket.send(json.dumps({"type": "start", "id": "x" * 3000}))
        assert await closed(socket) == 1009


async def test_over_capacity_is_refused_at_once_and_others_go_on() -> None:
    service = SineService()
    async with running(service) as server:
        held = [await connect(server.ws_url) for _ in range(MODEL.slots)]
        for socket in held:
            await send(socket, {"type": "start"})
            await hear(socket, until=("started",))
        async with connect(server.ws_url) as extra:
            async with asyncio.timeout(1):
                await send(extra, {"type": "start"})
                heard = await hear(extra)
            assert heard.messages[-1]["error"]["code"] == "over_capacity"
            assert heard.messages[-1]["retry_after_s"] >= 1
            assert await closed(extra) == 1013
        answer = await server.http.post("/v1/audio/speech", json={"input": "full"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        for socket in held:
            await send(socket, {"type": "text", "text": "ab"}, {"type": "end"})
            assert (await hear(socket)).of("done")[0]["frames"] == 2
            await socket.close()


async def test_a_failure_in_synthesis_hides_internals_and_never_looks_done() -> None:
    script = Script(fail_after_chunks=1)
    async with running(SineService(script)) as server, connect(server.ws_url) as socket:
        heard = await speak(socket, ["a", "b"])
        assert heard.pcm
        assert not heard.of("done")
        assert heard.messages[-1]["error"]["code"] == "internal_error"
        assert "secret" not in json.dumps(heard.messages)
        assert await closed(socket) == 1011


async def test_a_disconnect_cancels_and_frees_the_slot() -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service) as server:
        socket = await connect(server.ws_url)
        await send(socket, {"type": "start"}, {"type": "text", "text": "abc"})
        await hear(socket, until=("chunk",))
        assert service.in_use == 1
        socket.transport.abort()
        await eventually(lambda: service.in_use == 0)
        assert service.utterances[0].cancelled


async def test_idle_connections_are_closed_and_keepalives_keep_them() -> None:
    async with running(SineService(), ws_idle_timeout_s=0.4) as server, connect(server.ws_url) as socket:
        await send(socket, {"type": "start"}, {"type": "text", "text": "a"})
        for _ in range(4):
            await asyncio.sleep(0.2)
            await send(socket, {"type": "keepalive"})
        heard = await hear(socket, until=("error",))
        assert heard.messages[-1]["error"]["code"] == "idle_timeout"


async def test_a_listener_who_waits_for_long_speech_is_not_idle() -> None:
    script = Script(chunk_delay_s=0.5)
    async with running(SineService(script), ws_idle_timeout_s=0.3) as server, connect(server.ws_url) as socket:
        heard = await speak(socket, ["a", "b"])
        assert heard.messages[-1]["finish_reason"] == "stop"


async def test_several_utterances_late_messages_and_cancel_on_one_connection() -> None:
    service = SineService(Script(reason=FinishReason.LENGTH))
    async with running(service) as server, connect(server.ws_url) as socket:
        first = await speak(socket, ["ab", "c"], id="one", seed=7)
        assert first.messages[-1] | {"ttfa_s": 0} == {
            "type": "done", "id": "one", "finish_reason": "length", "duration_s": 0.06, "samples": 960, "frames": 3,
            "ttfa_s": 0, "rtf": 0.1, "cancel_ms": None, "seed": 7,
        }  # fmt: skip
        # Text still on its way when an utterance ended is no error.
        await send(socket, {"type": "text", "text": "late"}, {"type": "end"})
        await send(socket, {"type": "start", "id": "two"}, {"type": "text", "text": "abc"}, {"type": "flush"})
        await hear(socket, until=("starved",))
        await send(socket, {"type": "cancel"}, {"type": "end"})
        second = await hear(socket)
        assert (second.messages[-1]["finish_reason"], second.messages[-1]["id"]) == ("cancelled", "two")
        assert service.flushes == 1
        third = await speak(socket, ["x"])
        assert third.of("started")[0]["seed"] >= 0
        assert len(third.samples) == 320


async def test_other_sample_rates_and_floats() -> None:
    async with running(SineService()) as server, connect(server.ws_url) as socket:
        heard = await speak(socket, ["x" * 50, "y" * 50], sample_rate=48_000, format="f32le")
        samples = len(heard.pcm) // 4
        assert samples == pytest.approx(100 * 320 * 48_000 / RATE, abs=8)
        assert heard.messages[-1]["samples"] == samples == sum(m["samples"] for m in heard.of("chunk"))
        assert [m["sequence"] for m in heard.of("chunk")] == list(range(len(heard.of("chunk"))))


async def test_a_listener_who_stops_reading_loses_its_slot() -> None:
    service = SineService(Script(endless=True, frames_per_char=200))
    async with running(service, ws_send_timeout_s=0.3) as server:
        socket = await connect(server.ws_url, max_queue=1)
        await send(socket, {"type": "start"}, {"type": "text", "text": "abc"})
        await eventually(lambda: bool(service.utterances) and service.in_use == 0)
        metrics = (await server.http.get("/metrics")).text
        assert 'sled_tts_errors_total{code="slow_reader",route="stream"} 1.0' in metrics
        socket.transport.abort()


async def test_not_ready_is_an_http_answer_at_the_handshake() -> None:
    service = SineService()
    service.warm.clear()
    async with running(service, wait_ready=False) as server:
        assert (await server.http.get("/health/live")).status_code == 200
        for path in ("/health/ready",):
            answer = await server.http.get(path)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "not_ready"
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.ws_url)
        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body)["error"]["code"] == "not_ready"
        service.warm.set()
        await ready(server.http)
    assert service.closed


async def test_flushes_words_and_latencies_are_told() -> None:
    async with running(SineService()) as server, connect(server.ws_url) as socket:
        await send(socket, {"type": "start", "timings": True, "id": "u"}, {"type": "flush"})
        await send(socket, {"type": "text", "text": "one"}, {"type": "flush"}, {"type": "text", "text": "seven"})
        await send(socket, {"type": "end"})
        heard = await hear(socket)
    order = [m["type"] for m in heard.messages if m["type"] not in ("started", "starved")]
    assert order == ["flushed", "words", "chunk", "flushed", "words", "chunk", "done"]
    assert [m["number"] for m in heard.of("flushed")] == [1, 2]
    words = [word for message in heard.of("words") for word in message["words"]]
    assert [(word["text"], word["start_s"]) for word in words] == [("one", 0.0), ("seven", 0.06)]
    assert all(message["latency_s"] >= 0 for message in heard.of("chunk"))
    assert {message["id"] for message in heard.messages} == {"u"}


async def test_telephone_codes_and_speed() -> None:
    async with running(SineService()) as server, connect(server.ws_url) as socket:
        plain = await speak(socket, ["x" * 50], format="mulaw", sample_rate=8_000)
        assert len(plain.pcm) == plain.messages[-1]["samples"] == pytest.approx(50 * 160, abs=8)
        fast = await speak(socket, ["x" * 100], speed=2.0, timings=True)
        assert fast.messages[-1]["duration_s"] == pytest.approx(1.0, abs=0.1)
        assert fast.of("words")[0]["words"][0]["end_s"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("origin", "cors", "status"),
    [
        (None, (), None),
        ("http://127.0.0.1:{port}", (), None),
        ("https://app.example", ("https://app.example",), None),
        ("https://app.example", ("*",), None),
        ("https://evil.example", (), 403),
        ("https://evil.example", ("https://app.example",), 403),
        ("http://127.0.0.1:1", (), 403),
        ("null", (), 403),
    ],
)
async def test_pages_of_other_sites_are_refused(origin: str | None, cors: tuple[str, ...], status: int | None) -> None:
    async with running(SineService(), cors_origin=cors) as server:
        headers = {} if origin is None else {"Origin": origin.format(port=server.port)}
        answer = await server.http.post(
            "/v1/audio/speech", json={"input": "a", "response_format": "pcm"}, headers=headers
        )
        if status is None:
            assert answer.status_code == 200
            async with connect(server.ws_url, additional_headers=headers) as socket:
                assert (await speak(socket, ["a"])).of("done")
            return
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, "forbidden_origin")
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.ws_url, additional_headers=headers)
        assert refused.value.response.status_code == status
        assert (await server.http.get("/v1/models", headers=headers)).status_code == 200
