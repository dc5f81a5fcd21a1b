"""ElevenLabs over HTTP, and its alignment by itself."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path

import pytest

from sled_tts.server.engine.request import WordTiming
from sled_tts.server.routes.elevenlabs_alignment import Alignment
from tests.server.routes.conftest import Load
from tests.server.routes.fakes import HOP, RATE, SineService
from tests.server.routes.loopback import running

BASE = "/v1/text-to-speech/default"


async def test_whole_texts_and_refusals() -> None:
    async with running(SineService()) as server:
        for path in (BASE, f"{BASE}/stream"):
            answer = await server.http.post(f"{path}?output_format=pcm_16000", json={"text": "one two"})
            assert answer.status_code == 200
            assert len(answer.content) == 6 * HOP * 2
        answer = await server.http.post(BASE, json={"text": "one two", "model_id": "eleven_multilingual_v2"})
        assert answer.headers["content-type"] == "audio/mpeg"
        for query, body, status in (
            ("output_format=nonsense", {"text": "x"}, 422),
            ("", {"text": " "}, 400),
            ("", {"text": "x", "voice_settings": {"speed": 0}}, 422),
            ("", {"text": 7}, 422),
            ("", {}, 422),
        ):
            assert (await server.http.post(f"{BASE}?{query}", json=body)).status_code == status
        assert (await server.http.post("/v1/text-to-speech/nobody", json={"text": "x"})).status_code == 404


async def test_timestamps_and_voices() -> None:
    async with running(SineService()) as server:
        query = "output_format=pcm_16000"
        whole = (await server.http.post(f"{BASE}/with-timestamps?{query}", json={"text": "one two"})).json()
        lines = (await server.http.post(f"{BASE}/stream/with-timestamps?{query}", json={"text": "one two"})).text
        parts = [json.loads(line) for line in lines.splitlines()]
        assert b"".join(base64.b64decode(p["audio_base64"]) for p in parts) == base64.b64decode(whole["audio_base64"])
        for found in ([whole["alignment"]], [p["alignment"] for p in parts if p["alignment"]]):
            assert "".join(c for one in found for c in one["characters"]) == "one two"
            ends = [t for one in found for t in one["character_end_times_seconds"]]
            starts = [t for one in found for t in one["character_start_times_seconds"]]
            assert starts == sorted(starts)
            assert ends[-1] == pytest.approx(6 * HOP / RATE, abs=0.001)
        listed = (await server.http.get("/v1/voices")).json()["voices"]
        assert all({"voice_id", "name", "category"} <= set(one) for one in listed)


async def test_a_real_voice_is_listed_and_found(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder)) as server:
        listed = (await server.http.get("/v1/voices")).json()["voices"]
        assert listed
        one = (await server.http.get(f"/v1/voices/{listed[0]['voice_id']}")).json()
        assert one == listed[0]
        assert (await server.http.get("/v1/voices/nobody")).status_code == 404


def test_words_give_characters_their_share_and_pauses_to_spaces() -> None:
    alignment = Alignment(pace=2.0)
    alignment.append("ab  cd. ")
    alignment.words([WordTiming("ab", 0.2, 0.6, 0, 2)])
    first = alignment.chunk(1.0)
    alignment.words([WordTiming("cd.", 1.0, 1.6, 4, 7)])
    second = alignment.chunk(1.0)
    alignment.mark()
    third = alignment.spoken()
    told = [(c.text, round(c.start_s, 3), round(c.duration_s, 3)) for c in first + second + third]
    assert told == [
        ("a", 0.1, 0.1), ("b", 0.2, 0.1), (" ", 0.3, 0.1), (" ", 0.4, 0.1),
        ("c", 0.5, 0.1), ("d", 0.6, 0.1), (".", 0.7, 0.1), (" ", 0.8, 0.2),
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [0.01, 0.1, 0.37, 5.0])
def test_without_words_every_character_is_told_once_in_order(seconds: float) -> None:
    alignment, text = Alignment(), "Every character, once. "
    alignment.append(text)
    alignment.mark()
    told = [c for _ in range(20) for c in alignment.chunk(seconds)] + alignment.spoken()
    assert "".join(c.text for c in told) == text
    for one, after in pairwise(told):
        assert one.start_s + one.duration_s == pytest.approx(after.start_s)
    assert told[-1].start_s + told[-1].duration_s <= 20 * seconds + 1e-9


async def test_the_operators_seed_is_for_requests_without_one() -> None:
    service = SineService()
    async with running(service, seed=7) as server:
        for body in ({"text": "x"}, {"text": "x", "seed": 3}):
            assert (await server.http.post(BASE, json=body)).status_code == 200
    assert [one.options.seed for one in service.utterances] == [7, 3]
