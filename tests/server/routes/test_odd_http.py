"""What HTTP clients do that is odd and yet meant: each exchange once failed, or told its client wrongly."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.server.audio.decoding import hear
from tests.server.routes.conftest import Load
from tests.server.routes.fakes import HOP, RATE, Script, SineService
from tests.server.routes.loopback import eventually, running

SPEECH = "/v1/audio/speech"
RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE}
CARTESIA: dict[str, Any] = {"model_id": "sonic-3", "transcript": "abc", "voice": "default", "output_format": RAW}


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


async def test_a_client_that_keeps_its_connection_as_long_as_clients_do_finds_it_open() -> None:
    asked = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with running(SineService()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for pause_s in (0.0, 5.5):  # httpx, and so OpenAI's client, forgets a connection after 5
            await asyncio.sleep(pause_s)
            writer.write(asked)
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            headers = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(headers.split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.close()


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


async def test_deepgrams_rest_says_why_too() -> None:
    async with running(SineService()) as server:
        for query, body in (("?model=nobody", {"text": "a"}), ("?encoding=tape", {"text": "a"}), ("", {"text": ""})):
            answer = await server.http.post(f"/v1/speak{query}", json=body)
            assert answer.headers["dg-error"] == answer.json()["error"]["message"]


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
    assert len(audio) == 3 * HOP * 2
