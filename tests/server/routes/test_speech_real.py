"""`POST /v1/audio/speech` with a real engine and tiny checkpoints."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sled_tts.server.audio.wav import wav_header
from sled_tts.server.routes.studio import studio_folder
from tests.server.routes.conftest import RATE, Load
from tests.server.routes.loopback import running

SPEECH = "/v1/audio/speech"
HEADER = len(wav_header(RATE))
BODY: dict[str, Any] = {"input": "some words to learn from", "seed": 11, "max_seconds": 1.0, "response_format": "wav"}


def _recording(rate: int, channels: int, seconds: float) -> str:
    noise = np.random.default_rng(0).normal(0, 0.1, (int(rate * seconds), channels))
    file = io.BytesIO()
    soundfile.write(file, noise, rate, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


async def test_the_same_seed_is_the_same_audio_alone_or_in_company(load: Load, offline_folder: Path) -> None:
    async with running(load(offline_folder)) as server:

        async def post(**changes: Any) -> bytes:
            answer = await server.http.post(SPEECH, json=BODY | changes)
            assert answer.status_code == 200
            return answer.content

        alone = await post()
        together = await asyncio.gather(post(), *(post(seed=s) for s in range(5)), post())
        assert together[0] == together[-1] == alone
        assert len(set(together)) == 6
        assert len(alone) == HEADER + 2 * RATE
        # pcm is 24 kHz unless asked otherwise; at the model's rate it is the wav's samples.
        assert await post(response_format="pcm", sample_rate=RATE) == alone[HEADER:]
        pcm = await post(response_format="pcm")
        assert len(pcm) / 2 == pytest.approx((len(alone) - HEADER) / 2 * 1.5, abs=4)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (24_000, 1), (44_100, 2), (48_000, 2)])
async def test_voice_clone_of_any_rate(load: Load, offline_folder: Path, rate: int, channels: int) -> None:
    clone = BODY | {"ref_audio": _recording(rate, channels, 4.0), "ref_text": "some words to learn some words"}
    async with running(load(offline_folder)) as server:
        plain = (await server.http.post(SPEECH, json=BODY)).content
        cloned = await server.http.post(SPEECH, json=clone)
        continued = await server.http.post(SPEECH, json=clone | {"mode": "continuation"})
        assert (cloned.status_code, continued.status_code) == (200, 200)
        assert len({plain, cloned.content, continued.content}) == 3
        # The recording itself is never part of the answer.
        assert len(cloned.content) == HEADER + 2 * RATE


@pytest.mark.parametrize(("seconds", "status", "code"), [(0.05, 422, "bad_audio"), (15.0, 413, "input_too_long")])
async def test_recordings_too_short_or_too_long(
    load: Load, offline_folder: Path, seconds: float, status: int, code: str
) -> None:
    async with running(load(offline_folder)) as server:
        clone = BODY | {"ref_audio": _recording(8_000, 1, seconds), "ref_text": "some words to learn from " * 4}
        answer = await server.http.post(SPEECH, json=clone)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.json()["error"]["param"] == "ref_audio"
        assert "sled_tts_slots_in_use" in (await server.http.get("/metrics")).text
        ready = (await server.http.get("/health/ready")).json()
        assert ready["slots_in_use"] == 0


async def test_a_streaming_checkpoint_alone_serves_rest_too(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder)) as server:
        answer = await server.http.post(SPEECH, json=BODY)
        assert answer.status_code == 200
        assert answer.headers["x-sled-model"] == "tiny-streaming"
        assert len(answer.content) == HEADER + 2 * RATE


async def test_offline_is_preferred_for_rest(load: Load, streaming_folder: Path, offline_folder: Path) -> None:
    async with running(load(streaming_folder, offline_folder)) as server:
        assert (await server.http.post(SPEECH, json=BODY)).headers["x-sled-model"] == "tiny-offline"
        named = await server.http.post(SPEECH, json=BODY | {"model": "tiny-streaming"})
        assert named.headers["x-sled-model"] == "tiny-streaming"
        metrics = (await server.http.get("/metrics")).text
        assert 'sled_tts_engine_frames_total{model="tiny-offline"}' in metrics
        assert 'sled_tts_engine_frames_total{model="tiny-streaming"}' in metrics


async def test_over_capacity_with_real_slots(load: Load, offline_folder: Path) -> None:
    async with running(load(offline_folder, slots=1)) as server:
        answers = await asyncio.gather(*(server.http.post(SPEECH, json=BODY) for _ in range(4)))
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused
        assert len(refused) < 4
        for answer in refused:
            assert answer.headers["retry-after"]
            assert answer.json()["error"]["code"] == "over_capacity"


async def test_the_page_is_served_without_importing_clients(load: Load, streaming_folder: Path) -> None:
    if studio_folder() is None:
        pytest.skip("the page is not part of this installation")
    async with running(load(streaming_folder), api_key=("key",)) as server:
        page = await server.http.get("/")
        assert page.status_code == 200
        assert "<html" in page.text
        for line in page.text.split('"'):
            if line.startswith("/studio/"):
                assert (await server.http.get(line)).status_code == 200, line
        assert (await server.http.get("/studio/../settings.py")).status_code in (401, 404)
