"""The utterance state machine, without engine and without asyncio."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sled_tts.server.engine.request import (
    AudioChunk,
    Event,
    Failed,
    Finished,
    FinishReason,
    Mode,
    TextFlushed,
    TextStarved,
)
from sled_tts.server.errors import EmptyInputError, EngineError
from sled_tts.server.sessions.feed import SegmentFeed
from sled_tts.server.sessions.machine import UtteranceMachine
from sled_tts.server.sessions.splitting import SplitPlan
from sled_tts.server.sessions.voice import Voice
from tests.fakes import FakeClock
from tests.server.sessions.test_feed import TOKENIZER


def build(
    mode: Mode = Mode.STREAMING, plan: SplitPlan | None = None, **changes: Any
) -> tuple[UtteranceMachine, FakeClock]:
    values: dict[str, Any] = {
        "utterance_id": "u", "mode": mode, "seed": 5, "cfg_scale": 2.0, "max_frames": None, "n": None, "m": None,
        "prompt": None, "sampling_rate": 750, "frame_rate": 75.0,
    }  # fmt: skip
    clock = FakeClock()
    feed = SegmentFeed(TOKENIZER, plan or SplitPlan.by_sentence(200))
    return UtteranceMachine(Voice(**(values | changes)), feed, clock), clock


def chunk(sequence: int, frames: int) -> AudioChunk:
    return AudioChunk(sequence, np.zeros(frames * 10, np.float32), frames, 0.0)


def done(frames: int, reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(reason, frames, frames * 10, 0.05, 0.5)


def test_a_streaming_request_starts_with_the_first_tokens_and_gets_the_rest_pushed() -> None:
    machine, _ = build()
    machine.feed.append("the quick")
    request = machine.next_request()
    assert request is not None
    assert request.token_ids is None
    first = machine.fresh_tokens()
    assert first is not None
    assert first[1] is False
    machine.feed.close()
    rest = machine.fresh_tokens()
    assert rest is not None
    assert rest[1] is True
    assert first[0] + rest[0] == TOKENIZER.encode("the quick")
    assert machine.fresh_tokens() is None


def test_an_offline_request_waits_for_its_whole_sentence() -> None:
    machine, _ = build(Mode.OFFLINE)
    machine.feed.append("the quick")
    assert machine.next_request() is None
    machine.feed.append(" fox. the")
    request = machine.next_request()
    assert request is not None
    assert list(request.token_ids or ()) == TOKENIZER.encode("the quick fox.")
    assert machine.next_request() is None


def test_segments_are_one_stream_with_one_end() -> None:
    machine, clock = build(Mode.OFFLINE)
    machine.feed.append("the fox. the dog.")
    machine.feed.close()
    first = machine.next_request()
    assert first is not None
    out: list[Event | None] = [machine.receive(chunk(0, 7)), machine.receive(chunk(1, 4)), machine.receive(done(11))]
    assert out[-1] is None
    second = machine.next_request()
    assert second is not None
    assert second.seed != first.seed
    clock.now += 0.05
    out += [machine.receive(chunk(0, 7)), machine.receive(done(7, FinishReason.LENGTH))]
    chunks = [e for e in out if isinstance(e, AudioChunk)]
    assert [c.sequence for c in chunks] == [0, 1, 2]
    assert chunks[2].lead_s == pytest.approx(18 / 75 - 0.05)
    end = out[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.frames, end.samples, end.ttfa_s) == (FinishReason.LENGTH, 18, 180, 0.05)
    assert end.rtf == pytest.approx(0.5)
    assert machine.settle() is None


def test_max_frames_bounds_all_segments_together() -> None:
    machine, _ = build(Mode.OFFLINE, max_frames=10)
    machine.feed.append("the fox. the dog. the end.")
    machine.feed.close()
    machine.next_request()
    machine.receive(chunk(0, 7))
    machine.receive(done(7))
    request = machine.next_request()
    assert request is not None
    assert request.max_frames == 3
    machine.receive(chunk(0, 3))
    end = machine.receive(done(3, FinishReason.LENGTH))
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.LENGTH
    assert machine.next_request() is None


def test_a_failure_ends_the_utterance_whatever_text_is_left() -> None:
    machine, _ = build(Mode.OFFLINE)
    machine.feed.append("the fox. the dog.")
    machine.next_request()
    failed = Failed(EngineError("trouble"))
    assert machine.receive(failed) is failed
    assert machine.next_request() is None
    assert machine.settle() is None
    assert machine.cancel() is None


def test_no_text_at_all_is_an_error() -> None:
    machine, _ = build()
    machine.feed.append("  \n")
    machine.feed.close()
    end = machine.settle()
    assert isinstance(end, Failed)
    assert isinstance(end.error, EmptyInputError)


def test_a_wait_for_text_after_a_sentence_is_told_too() -> None:
    machine, _ = build()
    machine.feed.append("the fox. ")
    machine.next_request()
    machine.receive(chunk(0, 9))
    assert machine.receive(done(9)) == TextStarved(9)
    machine.feed.append("the dog. the end")
    machine.next_request()
    machine.receive(chunk(0, 4))
    assert machine.receive(done(4)) is None, "the next sentence has begun already"
    machine.feed.close()
    machine.next_request()
    end = machine.receive(done(3))
    assert isinstance(end, Finished)


def test_starvation_counts_the_frames_of_the_whole_utterance() -> None:
    machine, _ = build(Mode.OFFLINE)
    machine.feed.append("the fox. the dog.")
    machine.next_request()
    machine.receive(chunk(0, 9))
    machine.receive(done(9))
    machine.next_request()
    machine.receive(chunk(0, 7))
    assert machine.receive(TextStarved(7)) == TextStarved(16)
    end = machine.cancel()
    assert isinstance(end, Finished)
    assert (end.reason, end.frames) == (FinishReason.CANCELLED, 16)


def test_a_flush_is_answered_when_all_before_it_has_been_spoken() -> None:
    machine, _ = build()
    machine.flush()
    assert machine.flushed() == [TextFlushed(1)], "nothing was waiting"
    machine.feed.append("the quick. fox")
    machine.flush()
    machine.feed.append(" more")
    machine.feed.close()
    assert machine.flushed() == []
    heard: list[Event | None] = []
    while machine.next_request() is not None:
        machine.fresh_tokens()
        heard.append(machine.receive(chunk(0, 2)))
        heard.append(machine.receive(done(2)))
        heard += machine.flushed()
    flushed = heard.index(TextFlushed(2))
    assert [e.sequence for e in heard[:flushed] if isinstance(e, AudioChunk)] == [0, 1]
    assert [e.sequence for e in heard[flushed:] if isinstance(e, AudioChunk)] == [2]
    assert isinstance(machine.terminal, Finished)


def test_a_cancelled_utterance_answers_no_flush() -> None:
    machine, _ = build()
    machine.feed.append("the quick fox")
    machine.flush()
    assert machine.next_request() is not None
    machine.cancel()
    assert machine.flushed() == []
