"""The silence after a sentence: where it is, that it is counted, and that nothing else changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from sled_tts.server.engine.request import (
    AudioChunk,
    Event,
    Failed,
    Finished,
    FinishReason,
    Float32,
    Mode,
    TextFlushed,
    TextStarved,
    WordsSpoken,
)
from sled_tts.server.errors import EngineError
from sled_tts.server.service import UtteranceOptions
from sled_tts.server.sessions.feed import SegmentFeed
from sled_tts.server.sessions.machine import UtteranceMachine
from sled_tts.server.sessions.pauses import Pauses
from sled_tts.server.sessions.rules import SessionRules
from sled_tts.server.sessions.splitting import SplitPlan
from sled_tts.server.wiring import load_service
from tests.server.sessions.test_feed import TOKENIZER
from tests.server.sessions.test_machine import build, chunk, done
from tests.server.sessions.test_service import checkpoint, listen

PAUSES = Pauses(0.4, 0.2)
FRAME_RATE = 75.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("the quick brown fox.", 0.4),
        ("is it the fox?", 0.4),
        ('they said "the dog!"', 0.4),
        ("the fox…", 0.4),
        ("the fox !", 0.4),
        ("the fox ;", 0.2),
        ("the fox. ---", 0.4),
        ("the fox ! the dog", 0.0),
        ("it is five P M.", 0.4),
        ("the answer is no.", 0.4),
        ("the fox,", 0.2),
        ("the fox;", 0.2),
        ("the fox", 0.0),
        ("it's the quick brown fox of Mr.", 0.0),
    ],
)
def test_the_last_mark_says_how_long_a_pause_is(text: str, seconds: float) -> None:
    feed = SegmentFeed(TOKENIZER, SplitPlan.by_sentence(200))
    feed.append(text)
    feed.close()
    assert PAUSES.after(feed.segments[-1]) == seconds
    assert Pauses().after(feed.segments[-1]) == 0.0


def test_a_clause_has_half_the_pause_of_a_sentence() -> None:
    assert Pauses.of_sentences(0.3) == Pauses(0.3, 0.15)


def test_tokens_from_outside_say_nothing_about_pauses() -> None:
    feed = SegmentFeed(TOKENIZER, SplitPlan.by_sentence(200))
    feed.append_tokens(TOKENIZER.encode("the fox.")[1:-1])
    feed.close()
    assert PAUSES.after(feed.segments[0]) == 0.0


def heard(machine: UtteranceMachine, frames: int, end: FinishReason = FinishReason.STOP) -> list[Event]:
    """What a listener gets of one segment, in order, as `LiveUtterance` asks for it."""
    assert machine.next_request() is not None
    machine.fresh_tokens()
    events: list[Event | None] = []
    for event in (chunk(0, frames), done(frames, end)):
        got = machine.receive(event)
        events += [machine.words(), machine.pause(), *machine.flushed(), got]
    return [event for event in events if event is not None]


def test_a_pause_is_a_chunk_of_its_own_that_counts_as_sound_but_not_as_latents() -> None:
    machine, _ = build(Mode.OFFLINE, pauses=PAUSES)
    machine.feed.append("the fox. the dog.")
    machine.feed.close()
    events = heard(machine, 11) + heard(machine, 7)
    chunks = [event for event in events if isinstance(event, AudioChunk)]
    assert [event.sequence for event in chunks] == [0, 1, 2, 3]
    assert [event.frames for event in chunks] == [11, 0, 7, 0]
    assert [event.pcm.size for event in chunks] == [110, 300, 70, 300]
    assert not chunks[1].pcm.any()
    assert chunks[1].lead_s == pytest.approx((11 + 30) / FRAME_RATE)
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.frames, end.samples) == (18, 780)


def test_a_pause_comes_before_the_flush_that_ended_its_sentence() -> None:
    machine, _ = build(pauses=PAUSES)
    machine.feed.append("the fox.")
    machine.flush()
    assert [type(event) for event in heard(machine, 5)] == [AudioChunk, AudioChunk, TextFlushed, TextStarved]


def test_a_pause_counts_in_the_longest_the_utterance_may_be() -> None:
    machine, _ = build(Mode.OFFLINE, pauses=PAUSES, max_frames=50)
    machine.feed.append("the fox. the dog. the end.")
    machine.feed.close()
    heard(machine, 11)
    request = machine.next_request()
    assert request is not None
    assert request.max_frames == 50 - 11 - 30
    machine.receive(chunk(0, 5))
    end = machine.receive(done(5))
    pause = machine.pause()
    assert pause is not None
    assert pause.pcm.size == 10 * (50 - 11 - 30 - 5)
    assert isinstance(end, Finished)
    assert (end.reason, end.samples) == (FinishReason.LENGTH, 500)


def test_what_has_all_been_said_is_complete_although_its_pause_had_no_room() -> None:
    machine, _ = build(Mode.OFFLINE, pauses=PAUSES, max_frames=12)
    machine.feed.append("the fox.")
    machine.feed.close()
    *_, pause, end = heard(machine, 11)
    assert isinstance(pause, AudioChunk)
    assert pause.pcm.size == 10
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.STOP


def test_frames_told_of_a_wait_for_text_are_latents() -> None:
    machine, _ = build(pauses=PAUSES)
    machine.feed.append("the fox. ")
    heard(machine, 11)
    machine.feed.append("the dog and")
    machine.next_request()
    machine.receive(chunk(0, 4))
    assert machine.receive(TextStarved(4)) == TextStarved(15)


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CANCELLED])
def test_what_is_cut_off_has_no_pause(reason: FinishReason) -> None:
    machine, _ = build(Mode.OFFLINE, pauses=PAUSES)
    machine.feed.append("the fox.")
    machine.feed.close()
    assert [type(event) for event in heard(machine, 5, reason)] == [AudioChunk, Finished]


def test_a_failure_and_a_segment_without_sound_have_no_pause() -> None:
    machine, _ = build(Mode.OFFLINE, pauses=PAUSES)
    machine.feed.append("the fox. the dog.")
    machine.next_request()
    machine.receive(done(0))
    assert machine.pause() is None
    machine.next_request()
    machine.receive(chunk(0, 5))
    machine.receive(Failed(EngineError("trouble")))
    assert machine.pause() is None


def test_words_after_a_pause_are_told_that_much_later() -> None:
    starts = {}
    for name, pauses in (("none", Pauses()), ("some", PAUSES)):
        machine, _ = build(Mode.OFFLINE, pauses=pauses, timings=True)
        machine.feed.append("the fox. the dog.")
        machine.feed.close()
        events = heard(machine, 40) + heard(machine, 40)
        words = [word for event in events if isinstance(event, WordsSpoken) for word in event.words]
        assert [word.text for word in words] == ["the", "fox.", "the", "dog."]
        starts[name] = [word.start_s for word in words]
    later = np.subtract(starts["some"], starts["none"])
    np.testing.assert_allclose(later, [0.0, 0.0, 0.4, 0.4], atol=0.02)


@pytest.mark.parametrize("size", [1, 5, 100])
async def test_a_server_makes_pauses_between_the_same_samples(tmp_path: Path, size: int) -> None:
    """Two sentences and a clause that is cut where a segment has to end, however the text arrives."""
    spec = checkpoint(tmp_path, "live", {"max_segment_chars": 40}, stream_n=3, stream_m=4)
    text = "the quick brown fox jumps over the dog. it's not the last time, and they'll do so."
    told: dict[float, tuple[list[Float32], int]] = {}
    for seconds in (0.0, 0.25):
        service = load_service([spec], slots=1, threads=1, sessions=SessionRules(pauses=Pauses.of_sentences(seconds)))
        try:
            utterance = service.open_stream(UtteranceOptions(seed=3, max_frames=400))
            listening = asyncio.create_task(listen(utterance))
            for at in range(0, len(text), size):
                utterance.append(text[at : at + size])
                await asyncio.sleep(0)
            utterance.close()
            pcm, end = await listening
        finally:
            service.close()
        told[seconds] = ([pcm], end.frames)
    (plain,), frames = told[0.0]
    (paused,), same = told[0.25]
    assert frames == same
    model = service.models[0]
    length = round(0.25 * model.frame_rate) * model.hop
    assert len(paused) > len(plain)
    # Longest runs of digital silence are the pauses; without them it is the same speech.
    np.testing.assert_array_equal(_without_silence(paused, length // 2 - model.hop), plain)


def _without_silence(wave: Float32, least: int) -> Float32:
    sounding = np.flatnonzero(np.concatenate([[1.0], wave, [1.0]]))
    gaps = np.diff(sounding) - 1
    keep = np.ones(len(wave), dtype=bool)
    for begin, gap in zip(sounding[:-1][gaps >= least], gaps[gaps >= least], strict=True):
        keep[begin : begin + gap] = False
    return np.asarray(wave[keep])
