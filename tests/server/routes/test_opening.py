"""Streams with a stored voice that has to be fetched first: off the event loop, text and interruptions meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished, FinishReason
from sled_tts.server.errors import VoiceNotFoundError
from sled_tts.server.service import NewVoice, SpeechService, Utterance, UtteranceOptions
from sled_tts.server.sessions.opening import OpeningUtterance
from sled_tts.server.sessions.utterance import LiveUtterance
from sled_tts.server.voices.folder import VoiceFolder
from tests.server.routes.conftest import RATE, Load
from tests.server.voices.sounds import encoded, voiced

SAID = "words to learn some words from"
OPTIONS = UtteranceOptions(seed=5, voice="Anna", max_frames=12)


@pytest.fixture
def service(load: Load, tmp_path: Path, streaming_folder: Path) -> SpeechService:
    """One with a voice on disk that no process has read since it started."""
    first = load(streaming_folder, voices_dir=tmp_path / "voices")
    first.voices.add(NewVoice("Anna", encoded(voiced(2.0, RATE), RATE), SAID, "Anna agreed"))
    return load(streaming_folder, slots=1, voices_dir=tmp_path / "voices")


def _in_use(service: SpeechService) -> int:
    return sum(one.in_use for one in service.engine_stats().values())


async def _all(utterance: Utterance) -> list[Event]:
    return [event async for event in utterance]


def _pcm(events: list[Event]) -> Any:
    return np.concatenate([event.pcm for event in events if isinstance(event, AudioChunk)])


async def test_it_is_fetched_in_a_thread_and_sounds_as_when_it_is_at_hand(
    service: SpeechService, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    prompt = VoiceFolder.prompt

    def watched(self: VoiceFolder, *args: Any) -> Any:
        threads.append(threading.current_thread())
        return prompt(self, *args)

    monkeypatch.setattr(VoiceFolder, "prompt", watched)
    heard = []
    for kind in (OpeningUtterance, LiveUtterance):
        utterance = service.open_stream(OPTIONS)
        assert isinstance(utterance, kind)
        assert _in_use(service) == 1, "the slot is taken at once"
        for word in ("some ", "words ", "to "):
            utterance.append(word)
        utterance.flush()
        utterance.append("learn")
        utterance.close()
        heard.append(await _all(utterance))
        assert isinstance(heard[-1][-1], Finished)
        assert _in_use(service) == 0
    assert np.array_equal(_pcm(heard[0]), _pcm(heard[1]))
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_who_leaves_meanwhile_is_gone_at_once(service: SpeechService, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, begun = threading.Event(), threading.Event()
    prompt = VoiceFolder.prompt

    def slow(self: VoiceFolder, *args: Any) -> Any:
        begun.set()
        assert let_go.wait(30)
        return prompt(self, *args)

    monkeypatch.setattr(VoiceFolder, "prompt", slow)
    utterance = service.open_stream(OPTIONS)
    utterance.append("some words")
    events = aiter(utterance)
    ended = asyncio.ensure_future(anext(events))
    while not begun.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0.005)
    utterance.cancel()
    assert _in_use(service) == 0
    event = await asyncio.wait_for(ended, 20)
    let_go.set()
    assert isinstance(event, Finished)
    assert event.reason is FinishReason.CANCELLED


async def test_a_voice_that_cannot_be_had_is_an_error_at_once_or_the_end(
    service: SpeechService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(VoiceNotFoundError):
        service.open_stream(UtteranceOptions(seed=5, voice="nobody"))

    def broken(*_: Any) -> Any:
        raise OSError("the disk is gone")

    monkeypatch.setattr(VoiceFolder, "prompt", broken)
    utterance = service.open_stream(OPTIONS)
    utterance.append("some words")
    (end,) = await _all(utterance)
    assert isinstance(end, Failed)
    assert isinstance(end.error, OSError)
    assert _in_use(service) == 0
