"""Text that stops coming: nothing is invented, what is there is spoken, the end says why."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished, FinishReason, Float32
from sled_tts.server.errors import IdleTimeoutError
from sled_tts.server.service import UtteranceOptions
from sled_tts.server.sessions.idle import IdleRules
from sled_tts.server.sessions.rules import SessionRules
from sled_tts.server.sessions.utterance import LiveUtterance
from sled_tts.server.wiring import LocalSpeechService, load_service
from tests.fakes import until
from tests.server.sessions.test_service import checkpoint

OPTIONS = UtteranceOptions(seed=3, max_frames=400)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkpoint(tmp_path_factory.mktemp("models"), "live", {"max_segment_chars": 40}, stream_n=3, stream_m=4)


def pcm_of(events: list[Event]) -> Float32:
    return np.concatenate([e.pcm for e in events if isinstance(e, AudioChunk)] or [np.zeros(0, np.float32)])


async def collect(utterance: LiveUtterance, events: list[Event]) -> None:
    async for event in utterance:
        events.append(event)


async def heard(service: LocalSpeechService, parts: list[str], pause_s: float) -> list[Event]:
    utterance = service.open_stream(OPTIONS)
    events: list[Event] = []
    task = asyncio.create_task(collect(utterance, events))
    for part in parts:
        utterance.append(part)
        await asyncio.sleep(pause_s)
    utterance.close()
    await task
    return events


async def test_slow_text_sounds_like_fast_text_and_nothing_is_said_in_between(spec: str) -> None:
    service = load_service([spec], slots=2, threads=1)
    try:
        parts = ["the quick ", "brown fox ", "jumps over ", "the dog"]
        fast = await heard(service, parts, 0.0)
        slow = await heard(service, parts, 0.15)
    finally:
        await asyncio.to_thread(service.close)
    np.testing.assert_array_equal(pcm_of(slow), pcm_of(fast))
    assert isinstance(slow[-1], Finished)
    assert slow[-1].frames == fast[-1].frames  # type: ignore[union-attr]


async def test_silence_flushes_what_is_there_and_text_may_go_on(spec: str) -> None:
    service = load_service([spec], slots=2, threads=1, sessions=SessionRules(idle=IdleRules(flush_s=0.1)))
    try:
        utterance = service.open_stream(OPTIONS)
        events: list[Event] = []
        task = asyncio.create_task(collect(utterance, events))
        utterance.append("the fox")
        await until(lambda: sum(service.engine_stats()["live"].finished.values()) == 1)
        assert not task.done(), "a flushed utterance is still open"
        utterance.append(" the dog")
        utterance.close()
        await task
        assert service.engine_stats()["live"].admitted == 2
    finally:
        await asyncio.to_thread(service.close)
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is not FinishReason.CANCELLED


async def test_long_silence_ends_the_utterance_with_its_reason_and_frees_the_slot(spec: str) -> None:
    service = load_service([spec], slots=2, threads=1, sessions=SessionRules(idle=IdleRules(flush_s=0.05, close_s=0.4)))
    try:
        utterance = service.open_stream(OPTIONS)
        events: list[Event] = []
        utterance.append("the fox")
        async with asyncio.timeout(20):
            await collect(utterance, events)
        assert pcm_of(events).size > 0, "what was there has been spoken"
        assert isinstance(events[-1], Failed)
        assert isinstance(events[-1].error, IdleTimeoutError)
        await until(lambda: service.engine_stats()["live"].in_use == 0)
    finally:
        await asyncio.to_thread(service.close)
