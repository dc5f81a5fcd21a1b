"""OpenAI's table of `POST /v1/audio/speech`, row by row, against a service that speaks sine waves."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest

from sled_tts.server.audio.encoder import FORMATS
from sled_tts.server.engine.request import FinishReason
from tests.server.audio.decoding import hear, lag
from tests.server.routes.fakes import HOP, RATE, Script, SineService
from tests.server.routes.loopback import eventually, running

SPEECH = "/v1/audio/speech"
CONTENT_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
TEXT = "x" * 25 + " " + "y" * 25
SECONDS = 50 * HOP / RATE


def events(text: str) -> list[dict[str, Any]]:
    """The data of every server-sent event; each says its own name."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


@pytest.mark.parametrize("kind", FORMATS)
async def test_every_format_is_itself(kind: str) -> None:
    async with running(SineService()) as server:
        answer = await server.http.post(
            SPEECH,
            json={"input": TEXT, "response_format": kind},
            headers={"accept": "application/octet-stream", "authorization": "Bearer anything"},
        )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == CONTENT_TYPES[kind]
    assert answer.headers["x-synthetic-audio"] == "true"
    assert "content-length" not in answer.headers
    rate = int(answer.headers["x-sled-sample-rate"])
    if kind == "pcm":
        assert rate == 24_000
        pcm = np.frombuffer(answer.content, "<i2").astype(np.float32) / 32_767
    else:
        heard = hear(answer.content)
        pcm = heard.at(rate)
    time = np.arange(pcm.size) / rate
    late = lag(pcm, 0.5 * np.sin(2 * np.pi * 440 * time[: round(SECONDS * rate)]).astype(np.float32), rate // 440)
    assert pcm.size / rate == pytest.approx(SECONDS, abs=0.11)
    begin, end = rate // 5, round(SECONDS * rate) - rate // 10
    assert pcm[begin:end].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert late >= 0


async def test_mp3_is_what_one_gets_without_asking() -> None:
    async with running(SineService()) as server:
        assert (await server.http.post(SPEECH, json={"input": "abc"})).headers["content-type"] == "audio/mpeg"


TAKEN: list[dict[str, Any]] = [
    *({"model": name} for name in ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15", "sine", None)),
    *({"voice": name} for name in ("default", {"id": "alloy"}, "alloy", "ash", "ballad", "cedar", "coral", "echo",
                                   "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")),
    {"what_is_this": [1]}, {"instructions": ""}, {"speed": 1},
]  # fmt: skip


async def test_what_clients_send_is_taken() -> None:
    async with running(SineService()) as server:
        for body in TAKEN:
            answer = await server.http.post(SPEECH, json={"input": "abc", "response_format": "pcm"} | body)
            assert answer.status_code == 200, body
            assert answer.headers["x-sled-model"] == "sine"
            assert ("x-sled-warning" in answer.headers) == ("what_is_this" in body)


@pytest.mark.parametrize(("body", "param"), [
    ({"speed": 0.24}, "speed"), ({"speed": 4.1}, "speed"), ({"speed": "fast"}, "speed"),
    ({"stream_format": "ws"}, "stream_format"), ({"response_format": None}, "response_format"),
    ({"response_format": "opus", "sample_rate": 44_100}, "sample_rate"),
    ({"response_format": "mp3", "sample_rate": 9_000}, "sample_rate"), ({"voice": {}}, "voice.id"),
    ({"voice": 5}, "voice"),
])  # fmt: skip
async def test_what_cannot_be_done_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    service = SineService()
    async with running(service) as server:
        answer = await server.http.post(SPEECH, json={"input": "abc"} | body)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_parameter")
    assert error["param"] == param
    assert error["message"].startswith(param) or param == "sample_rate"
    assert not service.utterances


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 4.0])
async def test_speed_changes_how_long_it_takes_to_say(speed: float) -> None:
    async with running(SineService()) as server:
        answer = await server.http.post(SPEECH, json={"input": TEXT, "response_format": "pcm", "speed": speed})
    pcm = np.frombuffer(answer.content, "<i2").astype(np.float32)
    assert pcm.size / 24_000 == pytest.approx(SECONDS / speed, abs=0.01)
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size)))
    assert spectrum.argmax() * 24_000 / pcm.size == pytest.approx(440, abs=12)


@pytest.mark.parametrize("kind", FORMATS)
async def test_events_carry_the_same_bytes(kind: str) -> None:
    body = {"input": TEXT, "response_format": kind, "seed": 1}
    async with running(SineService()) as server:
        plain = await server.http.post(SPEECH, json=body)
        answer = await server.http.post(SPEECH, json=body | {"stream_format": "sse"})
    assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
    assert answer.headers["x-synthetic-audio"] == "true"
    *deltas, done = events(answer.text)
    assert deltas
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == plain.content
    assert done["type"] == "speech.audio.done"
    assert done["usage"] == {"input_tokens": 51, "output_tokens": 50, "total_tokens": 101}


@pytest.mark.parametrize("script", [Script(fail_after_chunks=1), Script(reason=FinishReason.LENGTH)])
async def test_events_that_break_off_say_so(script: Script) -> None:
    async with running(SineService(script)) as server:
        answer = await server.http.post(SPEECH, json={"input": TEXT, "response_format": "pcm", "stream_format": "sse"})
    *_, last = events(answer.text)
    assert last["type"] == "speech.audio.error"
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert last["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert "speech.audio.done" not in answer.text


@pytest.mark.parametrize("kind", FORMATS)
async def test_no_format_ends_cleanly_when_the_speech_does_not(kind: str) -> None:
    service = SineService(Script(fail_after_chunks=1))
    body = {"input": TEXT, "response_format": kind}
    async with running(service) as server, server.http.stream("POST", SPEECH, json=body) as answer:
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()
    assert service.in_use == 0


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_sound_arrives_while_it_is_made_and_leaving_frees_the_slot(stream_format: str) -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service) as server:
        async with server.http.stream("POST", SPEECH, json={"input": "abc", "stream_format": stream_format}) as answer:
            heard = 0
            async for part in answer.aiter_bytes():
                heard += len(part)
                if heard > 2_000:
                    break
            assert service.in_use == 1
        await eventually(lambda: service.in_use == 0)
        assert service.utterances[0].cancelled


async def test_an_unknown_voice_may_be_replaced_by_setting_which_is_said() -> None:
    async with running(SineService(), accept_unknown_voices=True) as server:
        answer = await server.http.post(SPEECH, json={"input": "ab", "voice": "af_heart", "instructions": "softly"})
        assert answer.status_code == 200
        told = answer.headers["X-Sled-Warning"]
        assert "instructions has no effect" in told
        assert "the default one speaks" in told
        known = await server.http.post(SPEECH, json={"input": "ab", "voice": "alloy"})
        assert "X-Sled-Warning" not in known.headers
    async with running(SineService()) as server:
        assert (await server.http.post(SPEECH, json={"input": "ab", "voice": "af_heart"})).status_code == 404


async def test_every_slot_taken_is_said_with_when_to_come_back() -> None:
    service = SineService()
    service.in_use = 4
    async with running(service) as server:
        answer = await server.http.post(SPEECH, json={"input": "abc"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "server_error"
        service.in_use = 0


async def test_long_texts_up_to_the_limit() -> None:
    async with running(SineService(), max_text_chars=20_000) as server:
        body = {"input": "word " * 4_000, "response_format": "pcm", "sample_rate": RATE}
        answer = await server.http.post(SPEECH, json=body)
        assert len(answer.content) == 16_000 * HOP * 2
        assert (await server.http.post(SPEECH, json=body | {"input": "x" * 20_001})).status_code == 413


async def test_the_page_of_the_interface_needs_no_other_site() -> None:
    async with running(SineService(), api_key=("key",)) as server:
        page = await server.http.get("/docs")
        assert page.status_code == 200
        linked = [part for part in page.text.split('"') if part.endswith((".js", ".css", ".png"))]
        assert len(linked) == 3
        for path in linked:
            assert path.startswith("/docs/assets/")
            assert (await server.http.get(path)).status_code == 200
        assert "https://" not in page.text
        schema = (await server.http.get("/openapi.json")).json()
        content = schema["paths"][SPEECH]["post"]["responses"]["200"]["content"]
        assert set(content) >= {*CONTENT_TYPES.values(), "text/event-stream"}


async def test_models_in_openais_shapes() -> None:
    async with running(SineService()) as server:
        listed = (await server.http.get("/v1/models")).json()
        assert listed["object"] == "list"
        for model in listed["data"]:
            assert {"id", "object", "created", "owned_by"} <= set(model)
            assert (await server.http.get(f"/v1/models/{model['id']}")).json() == model
        assert (await server.http.get("/v1/audio/models")).json()["models"] == [{"id": "sine"}]
        missing = await server.http.get("/v1/models/none")
        assert missing.status_code == 404
        assert missing.json()["error"]["param"] == "model"
