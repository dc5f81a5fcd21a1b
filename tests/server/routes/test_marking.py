"""Every stream says that it is synthetic, and what a client asks for in vain is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.routes.fakes import RATE, SineService
from tests.server.routes.loopback import connect, running, send

CARTESIA = {
    "model_id": "sonic-3",
    "transcript": "ab",
    "voice": {"mode": "id", "id": "default"},
    "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE},
}
ELEVENLABS = f"/v1/text-to-speech/default/multi-stream-input?output_format=pcm_{RATE}"
WEBSOCKETS = (
    "/v1/stream",
    ELEVENLABS,
    ELEVENLABS.replace("multi-", ""),
    "/tts/websocket",
    f"/v1/speak?encoding=linear16&sample_rate={RATE}",
)


async def test_every_handshake_and_every_answer_says_that_speech_is_synthetic() -> None:
    async with running(SineService()) as server:
        for path in WEBSOCKETS:
            async with connect(f"ws://127.0.0.1:{server.port}{path}") as socket:
                assert socket.response is not None
                assert socket.response.headers["X-Synthetic-Audio"] == "true", path
                if path == "/v1/stream":
                    await send(socket, {"type": "start"})
                    assert json.loads(await socket.recv())["synthetic"] is True
                if path.startswith("/v1/speak"):
                    assert json.loads(await socket.recv())["synthetic"] is True
        for path, body in (
            ("/v1/audio/speech", {"input": "ab"}),
            ("/v1/audio/speech", {"input": "ab", "stream_format": "sse"}),
            ("/v1/text-to-speech/default", {"text": "ab"}),
            ("/v1/text-to-speech/default/with-timestamps", {"text": "ab"}),
            ("/v1/text-to-speech/default/stream/with-timestamps", {"text": "ab"}),
            ("/tts/bytes", CARTESIA),
            ("/tts/sse", CARTESIA),
            ("/v1/speak", {"text": "ab"}),
        ):
            answer = await server.http.post(path, json=body)
            assert (answer.status_code, answer.headers.get("X-Synthetic-Audio")) == (200, "true"), path


@pytest.mark.parametrize(
    ("path", "body", "warning"),
    [
        ("/v1/audio/speech", {"input": "ab", "lang": "en", "top_p": None}, "without effect: lang"),
        ("/v1/audio/speech", {"input": "ab", "instructions": "x", "lang": 1}, "lang; instructions has no effect"),
        ("/v1/text-to-speech/default", {"text": "ab", "next_text": "c", "previous_text": "d"}, "next_text, previous_"),
        ("/tts/bytes", CARTESIA | {"language": "en", "\n": 1, "x" * 65: 1}, "without effect: language"),
        ("/v1/speak?tag=a&mip_opt_out=true", {"text": "ab"}, "without effect: mip_opt_out, tag"),
        (
            "/v1/speak?tag=a&model=aura-%0A%E6%BC%A2",
            {"text": "ab"},
            "without effect: tag; the voice that was asked for",
        ),
    ],
)
async def test_fields_without_effect_are_named(path: str, body: dict[str, Any], warning: str) -> None:
    async with running(SineService()) as server:
        answer = await server.http.post(path, json=body)
        assert warning in answer.headers["X-Sled-Warning"]
        if "x" * 65 in body:
            assert answer.headers["X-Sled-Warning"] == warning


async def test_a_callback_is_refused() -> None:
    async with running(SineService()) as server:
        answer = await server.http.post("/v1/speak?callback=http://x.example", json={"text": "ab"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "callback")


@pytest.mark.parametrize(("asked", "normalize"), [(None, True), ("auto", True), ("on", True), ("off", False)])
async def test_normalisation_is_switched_as_each_service_does(asked: str | None, normalize: bool) -> None:
    service = SineService()
    async with running(service) as server:
        for path in (ELEVENLABS, ELEVENLABS.replace("multi-", "")):
            query = "" if asked is None else f"&apply_text_normalization={asked}"
            async with connect(f"ws://127.0.0.1:{server.port}{path}{query}") as socket:
                await send(socket, {"text": "ab "})
                await socket.recv()
        field = {} if asked is None else {"apply_text_normalization": asked}
        await server.http.post("/v1/text-to-speech/default", json={"text": "ab"} | field)
        field = {} if asked is None else {"normalization": asked}
        await server.http.post("/tts/bytes", json=CARTESIA | field)
        async with connect(f"ws://127.0.0.1:{server.port}/tts/websocket") as socket:
            await send(socket, CARTESIA | field)
            await socket.recv()
    assert [one.options.normalize for one in service.utterances] == [normalize] * 5


async def test_a_wrong_switch_is_refused() -> None:
    async with running(SineService()) as server:
        body = {"text": "ab", "apply_text_normalization": "sometimes"}
        answer = await server.http.post("/v1/text-to-speech/default", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "apply_text_normalization")
