"""Word times out of looks: a machine whose engine says where it looks, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sled_tts.server.engine.request import AudioChunk, Finished, FinishReason, Mode, WordsSpoken, WordTiming
from sled_tts.server.sessions.feed import SegmentFeed
from sled_tts.server.sessions.machine import UtteranceMachine
from sled_tts.server.sessions.splitting import SplitPlan
from sled_tts.server.sessions.voice import Voice
from tests.fakes import FakeClock
from tests.server.sessions.test_feed import TOKENIZER

RATE, FRAME_RATE, LEAD_S = 1000, 50.0, 0.04
TEXT = "the fox, and it's the lazy dog; they'll do so."


def machine(prefix: str = "") -> UtteranceMachine:
    voice = Voice(
        utterance_id="u", mode=Mode.STREAMING, seed=7, cfg_scale=2.0, max_frames=None, n=None, m=None, prompt=None,
        sampling_rate=RATE, frame_rate=FRAME_RATE, timings=True, text_lead_s=LEAD_S,
    )  # fmt: skip
    return UtteranceMachine(voice, SegmentFeed(TOKENIZER, SplitPlan.trained_on(200), prefix), FakeClock())


def spoken(one: UtteranceMachine, frames_a_token: Sequence[int], size: int) -> tuple[list[WordTiming], list[float]]:
    """Play the engine: token k for `frames_a_token[k]` frames; words told, and the sound told before each."""
    request = one.next_request()
    assert request is not None
    assert request.follow_text
    path = [k for k, frames in enumerate(frames_a_token) for _ in range(frames)]
    looks = [np.eye(len(frames_a_token), dtype=np.float32)[token] for token in path]
    words, before = list[WordTiming](), list[float]()
    for number, first in enumerate(range(0, len(looks), size)):
        part = tuple(looks[first : first + size])
        pcm = np.zeros(len(part) * round(RATE / FRAME_RATE), np.float32)
        chunk = one.receive(AudioChunk(number, pcm, len(part), 0.0, part))
        assert isinstance(chunk, AudioChunk)
        assert chunk.looks == (), "of no use to a listener"
        told = (one.words() or WordsSpoken(())).words
        words += told
        before += [first / FRAME_RATE] * len(told)
    one.receive(Finished(FinishReason.STOP, len(looks), round(len(looks) * RATE / FRAME_RATE), 0.1, 0.5))
    rest = (one.words() or WordsSpoken(())).words
    return words + list(rest), before + [len(looks) / FRAME_RATE] * len(rest)


@pytest.mark.parametrize("prefix", ["", "it's not the dog"])
@pytest.mark.parametrize("size", [1, 4, 16])
def test_words_begin_where_their_first_tokens_are_looked_at(size: int, prefix: str) -> None:
    one = machine(prefix)
    for at in range(0, len(TEXT), 5):
        one.feed.append(TEXT[at : at + 5])
    one.feed.close()
    ids = TOKENIZER.encode(f"{prefix} {TEXT}".strip())
    assert one.feed.segments[0].ids == ids
    spelled = [TOKENIZER.text_bytes(token) for token in ids]
    shift = len(prefix) + 1 if prefix else 0
    # The prefix has been said before the first frame, but for its last token.
    said = sum(sum(spelled[: k + 1]) < shift for k in range(len(ids))) if prefix else 0
    frames = [max(0, 2 + k - said) if k < said else 2 + k % 3 for k in range(len(ids))]
    words, before = spoken(one, frames, size)
    assert [word.text for word in words] == TEXT.split()
    assert [TEXT[word.begin : word.end] for word in words] == TEXT.split()
    for word, told in zip(words, before, strict=True):
        token = next(k for k in range(len(ids)) if sum(spelled[: k + 1]) > word.begin + shift)
        reached = sum(frames[:token])
        want = reached / FRAME_RATE + (LEAD_S if reached else 0.0)
        assert word.start_s == pytest.approx(want)
        assert word.end_s > word.start_s
        assert told <= want, "told with the sound that holds its start, or before"


def test_words_that_are_never_looked_at_come_at_the_end_in_order() -> None:
    one = machine()
    one.feed.append("the quick fox. ")
    one.feed.close()
    words, _ = spoken(one, [9, 8], 4)
    assert [word.text for word in words] == ["the", "quick", "fox."]
    starts = [word.start_s for word in words]
    assert starts == sorted(starts)
    assert starts[-1] <= 17 / FRAME_RATE
