"""The `openai` package, unmodified."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sled_tts.server.engine.request import FinishReason
from tests.interop.conftest import Live
from tests.interop.listening import assert_spoken, from_int16, paragraph
from tests.server.audio.decoding import hear
from tests.server.routes.fakes import MODEL, Script, SineService
from tests.server.routes.loopback import Running, eventually, running

pytestmark = pytest.mark.interop
openai = pytest.importorskip("openai", reason="the extra `interop` is not installed")


def client(url: str, **options: Any) -> Any:
    """A new one for each test: it belongs to its event loop."""
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", **({"max_retries": 0} | options))


def url_of(server: Running) -> str:
    return f"http://127.0.0.1:{server.port}"


async def test_a_paragraph_into_a_file_as_the_package_asks_for_it(live: Live, tmp_path: Path) -> None:
    text, file = paragraph(0), tmp_path / "speech.mp3"
    async with client(live.url) as api, api.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input=text, extra_body={"seed": 1}
    ) as answer:  # fmt: skip
        assert answer.headers["content-type"] == "audio/mpeg"
        assert answer.headers["x-synthetic-audio"] == "true"
        await answer.stream_to_file(file)
    heard = hear(file.read_bytes())
    assert_spoken(heard.pcm, heard.rate, text)


async def test_every_format_says_the_same(live: Live) -> None:
    body = {"model": "tts-1", "voice": "alloy", "input": "Hello there.", "extra_body": {"seed": 1}}
    async with client(live.url) as api:
        pcm = from_int16((await api.audio.speech.create(**body, response_format="pcm")).content)
        for kind in ("mp3", "opus", "aac", "flac", "wav"):
            heard = hear((await api.audio.speech.create(**body, response_format=kind)).content).at(24_000)
            # Over the whole of it: a steady vowel alone is as alike one pitch period later.
            late = int(np.argmax(np.correlate(np.pad(heard, (0, 3_000)), pcm, "valid")[:3_000]))
            assert np.corrcoef(heard[late : late + pcm.size], pcm[: heard.size - late])[0, 1] > 0.95, kind
            assert pcm.size - 4 <= heard.size - late < pcm.size + 4_800, kind


async def test_pcm_arrives_while_it_is_spoken(live: Live) -> None:
    text, parts, times = paragraph(1), [], []
    clock = asyncio.get_running_loop().time
    async with (
        client(live.url) as api,
        api.audio.speech.with_streaming_response.create(
            model="tts-1", voice={"id": "verse"}, input=text, response_format="pcm", extra_body={"seed": 1}
        ) as answer,
    ):
        async for part in answer.iter_bytes(chunk_size=4800):
            parts.append(part)
            times.append(clock())
    wave = from_int16(b"".join(parts))
    assert_spoken(wave, 24_000, text)
    # Not all at the end: the first half of the pieces is there long before the last one.
    assert times[len(times) // 2] - times[0] > 0.2 * (times[-1] - times[0])


async def test_a_whole_answer_and_speed(live: Live) -> None:
    text = "Once more, but not so fast."
    async with client(live.url) as api:
        body = {
            "model": "tts-1-hd",
            "voice": "nova",
            "input": text,
            "response_format": "wav",
            "extra_body": {"seed": 1},
        }
        normal = hear((await api.audio.speech.create(**body)).content)
        slower = hear((await api.audio.speech.create(**body, speed=0.8)).content)
    assert normal.pcm.size > 0.5 * normal.rate
    assert slower.pcm.size == pytest.approx(normal.pcm.size / 0.8, abs=2)


@pytest.mark.parametrize("kind", ["mp3", "pcm"])
async def test_server_sent_events(live: Live, kind: str) -> None:
    text, audio, last = paragraph(3), b"", {}
    async with (
        client(live.url) as api,
        api.audio.speech.with_streaming_response.create(
            model="tts-1", voice="ash", input=text, response_format=kind, stream_format="sse", extra_body={"seed": 1}
        ) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.iter_lines():
            if line.startswith("data: "):
                last = json.loads(line.removeprefix("data: "))
                audio += base64.b64decode(last.get("audio", ""))
    assert last["type"] == "speech.audio.done"
    assert last["usage"]["total_tokens"] == last["usage"]["input_tokens"] + last["usage"]["output_tokens"]
    heard = hear(audio) if kind == "mp3" else None
    assert_spoken(heard.pcm if heard else from_int16(audio), heard.rate if heard else 24_000, text)


async def test_models(live: Live) -> None:
    async with client(live.url) as api:
        names = [model.id async for model in api.models.list()]
        assert names
        assert (await api.models.retrieve(names[0])).id == names[0]
        assert (await api.models.retrieve("tts-1")).id in names
        with pytest.raises(openai.NotFoundError):
            await api.models.retrieve("nothing")


@pytest.mark.parametrize(("body", "error", "param"), [
    ({"voice": "nobody"}, "NotFoundError", "voice"), ({"model": "gpt-9"}, "NotFoundError", "model"),
    ({"input": " "}, "BadRequestError", "input"), ({"speed": 9.0}, "UnprocessableEntityError", "speed"),
    ({"response_format": "mp9"}, "UnprocessableEntityError", "response_format"),
])  # fmt: skip
async def test_errors_are_the_packages_own(body: dict[str, Any], error: str, param: str) -> None:
    async with running(SineService()) as server, client(url_of(server)) as api:
        with pytest.raises(getattr(openai, error)) as raised:
            await api.audio.speech.create(**({"model": "tts-1", "voice": "alloy", "input": "abc"} | body))
    assert raised.value.param == param
    assert raised.value.code
    assert raised.value.type == "invalid_request_error"


async def test_keys_and_wrong_base_urls() -> None:
    body = {"model": "tts-1", "voice": "alloy", "input": "abc"}
    async with running(SineService(), api_key=("right",)) as server:
        async with client(url_of(server)) as api:
            with pytest.raises(openai.AuthenticationError):
                await api.audio.speech.create(**body)
            assert (await api.with_options(api_key="right").audio.speech.create(**body)).content
        for wrong in ("/v1/audio/speech", ""):
            async with openai.AsyncOpenAI(base_url=url_of(server) + wrong, api_key="right", max_retries=0) as api:
                with pytest.raises(openai.NotFoundError, match="base URL should end in /v1"):
                    await api.audio.speech.create(**body)


async def test_a_full_server_is_tried_again() -> None:
    service = SineService()
    service.in_use = MODEL.slots
    async with running(service) as server, client(url_of(server), max_retries=2) as api:
        asking = asyncio.create_task(api.audio.speech.create(model="tts-1", voice="alloy", input="abc"))
        await eventually(lambda: "over_capacity" in server.app.state.sled.metrics.render().decode())
        service.in_use = 0
        assert (await asking).content


@pytest.mark.parametrize("script", [Script(fail_after_chunks=1), Script(reason=FinishReason.LENGTH)])
async def test_speech_that_breaks_off_is_no_success(script: Script) -> None:
    async with running(SineService(script)) as server, client(url_of(server)) as api:
        with pytest.raises(openai.APIConnectionError):
            await api.audio.speech.create(model="tts-1", voice="alloy", input="one two three")


def test_the_synchronous_client(live: Live) -> None:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as api:
        answer = api.audio.speech.create(
            model="tts-1", voice="alloy", input="Hello there.", response_format="pcm", extra_body={"seed": 1}
        )
    wave = from_int16(answer.content)
    assert 0.3 < wave.size / 24_000 < 4
    assert np.abs(wave).max() > 0.05
