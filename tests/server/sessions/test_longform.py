"""Texts without end: every subword once and in order, bounded memory, the voice carried from segment to segment."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sled_tts.model.tokenizer import BOS, EOS
from sled_tts.server.engine.request import (
    AudioChunk,
    Finished,
    FinishReason,
    Mode,
    SynthesisRequest,
    WordsSpoken,
    WordTiming,
)
from sled_tts.server.service import UtteranceOptions
from sled_tts.server.sessions.carry import carried
from sled_tts.server.sessions.feed import SegmentFeed
from sled_tts.server.sessions.machine import UtteranceMachine
from sled_tts.server.sessions.splitting import SplitPlan
from sled_tts.server.sessions.voice import Voice
from sled_tts.server.wiring import load_service
from tests.fakes import FakeClock
from tests.server.sessions.test_feed import TOKENIZER
from tests.server.sessions.test_service import checkpoint

RATE, FRAME_RATE = 1000, 50.0
_WORDS = "the quick brown fox jumps over lazy dog and it's not last time they'll do so".split()  # noqa: SIM905


_SPELLED = {i: token.replace("Ġ", " ") for token, i in TOKENIZER.vocab.items()}


def text_of(ids: Sequence[int]) -> str:
    """Of ASCII subwords."""
    return "".join(_SPELLED[i] for i in ids)


def sentences(count: int) -> Iterator[str]:
    """Distinct ones: each holds its number in base 16, a word for a digit."""
    for number in range(count):
        digits = [_WORDS[(number >> shift) & 15] for shift in (12, 8, 4, 0)]
        yield " ".join(digits) + ". "


def long_machine(carry: bool) -> UtteranceMachine:
    voice = Voice(
        utterance_id="u", mode=Mode.STREAMING, seed=7, cfg_scale=2.0, max_frames=None, n=None, m=None, prompt=None,
        sampling_rate=RATE, frame_rate=FRAME_RATE, carry_frames=200 if carry else None, timings=True,
    )  # fmt: skip
    feed = SegmentFeed(TOKENIZER, SplitPlan.trained_on(60), carried=carry)
    return UtteranceMachine(voice, feed, FakeClock())


def speak(machine: UtteranceMachine, request: SynthesisRequest, mark: float) -> tuple[list[int], list[WordTiming]]:
    """Play the engine: take the segment's ids, answer with a frame for each that all hold `mark`."""
    ids = list(request.token_ids or ())
    while (fresh := machine.fresh_tokens()) is not None:
        ids += fresh[0]
    frames = 4 * len(ids)
    pcm = np.full(frames * round(RATE / FRAME_RATE), 0.5, np.float32)
    words = list[WordTiming]()
    machine.receive(AudioChunk(0, pcm, frames, 0.0))
    words += (machine.words() or WordsSpoken(())).words
    latents = np.full((frames, 3), mark, np.float32) if request.keep_latents else None
    machine.receive(Finished(FinishReason.STOP, frames, pcm.size, 0.1, 0.5, latents))
    words += (machine.words() or WordsSpoken(())).words
    return ids, words


@pytest.mark.parametrize("carry", [False, True])
def test_thousands_of_sentences_are_fed_once_in_order_at_constant_memory(carry: bool) -> None:
    machine = long_machine(carry)
    fed, told, place = "", 0, 0
    sizes = list[int]()
    spoken_at = 0.0
    tracemalloc.start()
    try:
        for number, sentence in enumerate(sentences(3000)):
            # Deltas cut anywhere.
            for at in range(0, len(sentence), 7):
                machine.feed.append(sentence[at : at + 7])
            while machine.feed.segments and machine.feed.segments[0].ended:
                request = machine.next_request()
                assert request is not None
                ids, words = speak(machine, request, float(number))
                body = [i for i in ids if i not in (BOS, EOS)]
                assert ids[-1] == EOS
                assert (ids[0] == BOS) == (request.prompt is None)
                fed += " " * (request.prompt is None) + text_of(body)
                for word in words:
                    assert word.begin >= place
                    assert word.start_s >= spoken_at
                    place, spoken_at = word.end, word.start_s
                told += len(words)
            if number % 500 == 499:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0] - 2 * len(fed))
    finally:
        tracemalloc.stop()
    machine.feed.close()
    if (request := machine.next_request()) is not None:
        ids, words = speak(machine, request, 0.0)
        fed += " " * (request.prompt is None) + text_of([i for i in ids if i not in (BOS, EOS)])
        told += len(words)
    machine.settle()
    assert " ".join(fed.split()) == " ".join("".join(sentences(3000)).split())
    assert told == 12_000
    assert isinstance(machine.terminal, Finished)
    assert machine.terminal.reason is FinishReason.STOP
    assert max(sizes) - sizes[0] < 200_000, sizes


def test_a_segment_goes_on_from_the_one_before_and_from_an_older_one_after_a_cut() -> None:
    machine = long_machine(True)
    machine.feed.append(
        "the quick brown fox jumps over the dog. it's not the last time they'll do so. the fox. the dog."
    )
    machine.feed.close()
    first = machine.next_request()
    assert first is not None
    assert first.prompt is None
    speak(machine, first, 1.0)
    second = machine.next_request()
    assert second is not None
    assert second.prompt is not None
    text = text_of(list(second.prompt.ids[1:]))
    assert "the quick brown fox jumps over the dog.".endswith(text)
    assert set(second.prompt.latents.ravel()) == {1.0}
    assert second.prompt.once
    machine.receive(Finished(FinishReason.LENGTH, 4, 80, 0.1, 0.5, np.full((4, 3), 2.0, np.float32)))
    third = machine.next_request()
    assert third is not None
    assert third.prompt is not None
    assert set(third.prompt.latents.ravel()) == {1.0}


def test_what_is_carried_begins_after_punctuation_and_fits() -> None:
    words = [
        WordTiming(t, 10 + s, 10 + s + 0.4, 0, 1) for t, s in (("one", 0), ("two,", 1), ("three", 2), ("four.", 3))
    ]
    latents = np.arange(200, dtype=np.float32)[:, None].repeat(3, axis=1)
    encode = TOKENIZER.encode

    whole = carried(words, latents, 50.0, 10.0, 200, encode)
    assert whole is not None
    assert list(whole.ids) == encode("one two, three four.")[:-1]
    assert whole.frames == 200
    half = carried(words, latents, 50.0, 10.0, 199, encode)
    assert half is not None
    assert list(half.ids) == encode("three four.")[:-1]
    assert half.latents[0, 0] == 100.0
    assert half.frames == 100
    assert carried(words, latents, 50.0, 10.0, 99, encode) is None
    assert carried(words[:1], latents[:20], 50.0, 10.0, 200, encode) is None, "too short for a voice"


@pytest.mark.parametrize("carry", [None, False])
async def test_a_live_checkpoint_with_prompt_blocks_says_every_segment(
    tmp_path: Path, carry: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sled_tts.server.sessions.carry._LEAST_S", 0.1)  # a random network is brief
    spec = checkpoint(tmp_path, "primed", {"max_segment_chars": 40, "speech_prompts": True}, stream_n=3, stream_m=4)
    service = load_service([spec], slots=2, threads=1)
    try:
        requests = list[SynthesisRequest]()
        bridge = service.streaming
        assert bridge is not None
        opened = bridge.engine.runner.open
        bridge.engine.runner.open = lambda slot, r: (requests.append(r), opened(slot, r))[1]  # type: ignore[method-assign]
        text = "".join(sentences(12))
        utterance = service.open_stream(UtteranceOptions(seed=3, timings=True, carry=carry))
        utterance.append(text)
        utterance.close()
        events = [event async for event in utterance]
    finally:
        service.close()
    end = events[-1]
    assert isinstance(end, Finished)
    words = [w for e in events if isinstance(e, WordsSpoken) for w in e.words]
    assert [w.text for w in words] == text.split()
    assert [text[w.begin : w.end] for w in words] == text.split()
    assert len(requests) > 3
    carried_on = [r for r in requests if r.prompt is not None]
    assert not carried_on if carry is False else all(r.prompt and r.prompt.once for r in carried_on)
    if carry is None:
        assert carried_on
