"""`POST /v1/audio/speech` against a scripted service: errors, limits, aborts and disconnects."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from sled_tts.server.audio.wav import wav_header
from sled_tts.server.engine.request import FinishReason
from tests.server.routes.fakes import RATE, Script, SineService
from tests.server.routes.loopback import eventually, running

SPEECH = "/v1/audio/speech"


def _wav(rate: int, channels: int, seconds: float = 0.5) -> str:
    time = np.arange(int(rate * seconds)) / rate
    wave = np.stack([np.sin(2 * np.pi * 300 * time) * (0.5 if c == 0 else 0.25) for c in range(channels)], axis=1)
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{oops", 400, "bad_json", None),
        (b"[1]", 400, "bad_json", None),
        ({}, 422, "invalid_parameter", "input"),
        ({"input": " \n"}, 400, "empty_input", "input"),
        ({"input": "x" * 101}, 413, "input_too_long", "input"),
        ({"input": "a", "voice": "nobody"}, 404, "not_found", "voice"),
        ({"input": "a", "voice": {"id": "nobody"}}, 404, "not_found", "voice"),
        ({"input": "a", "model": "gpt-9"}, 404, "not_found", "model"),
        ({"input": "a", "response_format": "mp9"}, 422, "invalid_parameter", "response_format"),
        ({"input": "a", "seed": -1}, 422, "invalid_parameter", "seed"),
        ({"input": "a", "speed": 4.5}, 422, "invalid_parameter", "speed"),
        ({"input": "a", "sample_rate": 7}, 422, "invalid_parameter", "sample_rate"),
        ({"input": "a", "ref_text": "alone"}, 422, "invalid_parameter", "ref_audio"),
        ({"input": "a", "ref_audio": "AAAA"}, 422, "invalid_parameter", "ref_text"),
        ({"input": "a", "ref_audio": "*", "ref_text": "b"}, 422, "bad_audio", "ref_audio"),
        ({"input": "a", "ref_audio": "AAAA", "ref_text": "b"}, 422, "bad_audio", "ref_audio"),
        ({"input": "a", "ref_audio": _wav(8000, 1, 3.0), "ref_text": "b"}, 413, "input_too_long", "ref_audio"),
        ({"input": "a", "mode": "other"}, 422, "invalid_parameter", "mode"),
        ({"input": "a", "x": "x" * 200_000}, 413, "input_too_long", "body"),
    ],
)
async def test_errors_have_one_shape(body: Any, status: int, code: str, param: str | None) -> None:
    async with running(SineService(), max_text_chars=100, max_reference_s=2.0, max_body_bytes=150_000) as server:
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = await server.http.post(SPEECH, headers={"content-type": "application/json"}, **content)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]


async def test_unknown_paths_and_doubled_paths_and_methods() -> None:
    async with running(SineService()) as server:
        assert (await server.http.get("/v1/nothing")).json()["error"]["code"] == "not_found"
        doubled = await server.http.post(SPEECH + "/audio/speech")
        assert doubled.status_code == 404
        assert "base URL" in doubled.json()["error"]["message"]
        for path in ("/v1/v1/audio/speech", "/audio/speech", "/models"):
            hint = await server.http.get(path)
            assert hint.status_code == 404
            assert "base URL" in hint.json()["error"]["message"]
        wrong = await server.http.get(SPEECH)
        assert wrong.status_code == 405
        assert wrong.json()["error"]["code"] == "http_error"


async def test_chunked_bodies_are_bounded_while_they_arrive() -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    async with running(SineService(), max_body_bytes=5000) as server:
        answer = await server.http.post(SPEECH, content=endless())
        assert answer.status_code == 413
        assert answer.json()["error"]["param"] == "body"


@pytest.mark.parametrize("script", [Script(fail_after_chunks=2), Script(reason=FinishReason.LENGTH)])
async def test_a_failure_after_the_first_byte_aborts_the_body(script: Script) -> None:
    async with running(SineService(script)) as server:
        async with server.http.stream("POST", SPEECH, json={"input": "one two three"}) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await answer.aread()
        metrics = (await server.http.get("/metrics")).text
        assert 'sled_tts_errors_total{code="' in metrics


async def test_a_failure_before_the_first_byte_is_an_error_status() -> None:
    async with running(SineService(Script(fail_after_chunks=0))) as server:
        answer = await server.http.post(SPEECH, json={"input": "one"})
        assert answer.status_code == 500
        assert "secret" not in answer.text


async def test_a_length_that_was_asked_for_is_a_clean_end() -> None:
    async with running(SineService(Script(reason=FinishReason.LENGTH))) as server:
        answer = await server.http.post(SPEECH, json={"input": "one", "max_seconds": 1, "response_format": "wav"})
        assert answer.status_code == 200
        assert len(answer.content) == len(wav_header(RATE)) + 3 * 320 * 2


async def test_audio_is_streamed_and_a_disconnect_cancels() -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service) as server:
        async with server.http.stream("POST", SPEECH, json={"input": "abc", "response_format": "pcm"}) as answer:
            await anext(answer.aiter_bytes())
            assert service.in_use == 1
        await eventually(lambda: service.in_use == 0)
        assert service.utterances[0].cancelled


async def test_headers_formats_and_rates() -> None:
    async with running(SineService()) as server:
        wav = await server.http.post(
            SPEECH, json={"input": "abcd", "seed": 5, "instructions": "sing", "response_format": "wav"}
        )
        assert wav.headers["content-type"] == "audio/wav"
        assert wav.headers["x-sled-seed"] == "5"
        assert "instructions" in wav.headers["x-sled-warning"]
        assert wav.content[:4] == b"RIFF"
        assert wav.content[4:8] == wav.content[144:148] == b"\xff" * 4
        assert int.from_bytes(wav.content[24:28], "little") == RATE
        pcm = await server.http.post(SPEECH, json={"input": "x" * 50, "response_format": "pcm"})
        assert pcm.headers["content-type"] == "audio/pcm"
        assert pcm.headers["x-sled-sample-rate"] == "24000"
        assert len(pcm.content) / 2 == pytest.approx(50 * 320 * 24_000 / RATE, abs=4)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2)])
async def test_references_arrive_as_mono(rate: int, channels: int) -> None:
    service = SineService()
    body = {
        "input": "a",
        "ref_audio": "data:audio/wav;base64," + _wav(rate, channels, 1.5),
        "ref_text": "hello and goodbye",
    }
    async with running(service) as server:
        assert (await server.http.post(SPEECH, json=body | {"mode": "continuation"})).status_code == 200
    assert service.reference is not None
    assert service.reference.mode == "continuation"
    assert service.reference.pcm.shape == (rate * 3 // 2,)
    assert service.reference.rate == rate
    # Louder than speech usually is: brought to -20 dB.
    assert np.sqrt(np.square(service.reference.pcm).mean()) == pytest.approx(0.1, abs=0.002)


async def test_catalogue_metrics_and_documentation() -> None:
    async with running(SineService()) as server:
        await server.http.post(SPEECH, json={"input": "one two"})
        assert (await server.http.get("/v1/models")).json()["data"][0]["id"] == "sine"
        assert (await server.http.get("/v1/models/tts-1")).json()["id"] == "sine"
        assert (await server.http.get("/v1/models/none")).status_code == 404
        voices = (await server.http.get("/v1/audio/voices")).json()["voices"]
        assert voices[0]["id"] == "default"
        assert len(voices) == 14
        metrics = (await server.http.get("/metrics")).text
        for name in ("sled_tts_ttfa_seconds_count", "sled_tts_rtf_count", "sled_tts_chunk_gap_seconds_count"):
            assert f'{name}{{route="speech"}} 1.0' in metrics
        assert 'sled_tts_utterances_total{reason="stop",route="speech"} 1.0' in metrics
        assert 'sled_tts_active_streams{route="speech"} 0.0' in metrics
        assert 'sled_tts_slots{model="sine"} 4.0' in metrics
        assert "sled_tts_queue" in metrics
        schema = (await server.http.get("/openapi.json")).json()
        assert "audio/wav" in schema["paths"][SPEECH]["post"]["responses"]["200"]["content"]
