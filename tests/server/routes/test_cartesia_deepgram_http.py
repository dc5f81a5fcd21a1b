"""Whole texts over HTTP by Cartesia's and Deepgram's rules."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sled_tts.server.engine.request import FinishReason
from tests.server.routes.fakes import HOP, RATE, Script, SineService
from tests.server.routes.loopback import running

RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE}
BODY: dict[str, Any] = {"model_id": "sonic-3", "transcript": "ab cde", "voice": "default", "output_format": RAW}
PCM_BYTES = 5 * HOP * 2


@pytest.mark.parametrize(
    ("output_format", "kind", "start"),
    [
        (RAW, "audio/pcm", b""),
        (RAW | {"container": "wav"}, "audio/wav", b"RIFF"),
        ({"container": "mp3", "sample_rate": 44_100, "bit_rate": 128_000}, "audio/mpeg", b"ID3"),
    ],
)
async def test_cartesia_bytes(output_format: dict[str, Any], kind: str, start: bytes) -> None:
    service = SineService()
    async with running(service) as server:
        answer = await server.http.post("/tts/bytes", json=BODY | {"output_format": output_format})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.content.startswith(start)
    assert kind != "audio/pcm" or len(answer.content) == PCM_BYTES
    assert service.in_use == 0


async def test_cartesia_events() -> None:
    service = SineService()
    async with running(service) as server:
        answer = await server.http.post("/tts/sse", json=BODY | {"add_timestamps": True, "context_id": "c"})
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        assert [e["type"] for e in events] == ["timestamps", "chunk", "timestamps", "chunk", "done"]
        assert {e["context_id"] for e in events} == {"c"}
        assert len(b"".join(base64.b64decode(e["data"]) for e in events if "data" in e)) == PCM_BYTES
        service.script = Script(reason=FinishReason.LENGTH)
        answer = await server.http.post("/tts/sse", json=BODY)
        assert answer.text.splitlines()[-2].startswith("data: ")
        assert json.loads(answer.text.splitlines()[-2][6:])["error_code"] == "length"
    assert service.in_use == 0


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tts/bytes", BODY | {"voice": "nobody"}, 404),
        ("/tts/bytes", BODY | {"transcript": " "}, 400),
        ("/tts/bytes", BODY | {"transcript": "x" * 5000}, 413),
        ("/tts/bytes", BODY | {"output_format": RAW | {"container": "ogg"}}, 422),
        ("/tts/sse", BODY | {"output_format": RAW | {"container": "wav"}}, 422),
        ("/tts/bytes", {"transcript": "a"}, 422),
        ("/v1/speak", {"text": ""}, 400),
        ("/v1/speak", {"txt": "a"}, 422),
        ("/v1/speak?model=nobody", {"text": "a"}, 404),
        ("/v1/speak?encoding=linear16&container=ogg", {"text": "a"}, 422),
        ("/v1/speak?encoding=tape", {"text": "a"}, 422),
        ("/v1/speak?sample_rate=5", {"text": "a"}, 422),
    ],
)
async def test_bad_requests(path: str, body: dict[str, Any], status: int) -> None:
    service = SineService()
    async with running(service) as server:
        answer = await server.http.post(path, json=body)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert service.in_use == 0


async def test_voices_by_pages() -> None:
    async with running(SineService()) as server:
        page = (await server.http.get("/voices", params={"limit": 1})).json()
        assert [voice["id"] for voice in page["data"]] == ["default"]
        assert (await server.http.get("/voices", params={"starting_after": "default"})).json()["data"] == []
        assert (await server.http.get("/voices", params={"q": "nothing like it"})).json()["data"] == []
        assert (await server.http.get("/voices/default")).json() == page["data"][0]
        assert (await server.http.get("/voices/nobody")).status_code == 404


@pytest.mark.parametrize(
    ("query", "kind", "length"),
    [
        (f"?encoding=linear16&container=none&sample_rate={RATE}", "audio/pcm", PCM_BYTES),
        (f"?encoding=mulaw&sample_rate={RATE}", "audio/basic", PCM_BYTES // 2),
        ("?container=wav", "audio/wav", None),
        ("?model=aura-2-thalia-en", "audio/mpeg", None),
    ],
)
async def test_deepgram_rest(query: str, kind: str, length: int | None) -> None:
    async with running(SineService()) as server:
        answer = await server.http.post(f"/v1/speak{query}", json={"text": "ab cde"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert length is None or len(answer.content) == length
    assert ("X-Sled-Warning" in answer.headers) == ("aura" in query)
