"""Text deltas to token ids of segments."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sled_tts.model.errors import TokenizerError
from sled_tts.model.tokenizer import BOS, EOS, Tokenizer, train_tokenizer
from sled_tts.server.errors import ProtocolError
from sled_tts.server.sessions.feed import SegmentFeed
from sled_tts.server.sessions.splitting import SplitPlan

CORPUS = ["the quick brown fox jumps over the lazy dog, and it's not the last time they'll do so."] * 3
TOKENIZER: Tokenizer = train_tokenizer(CORPUS, 330)
LONG = SplitPlan.bounded_by(1000)


def said(text: str) -> str:
    """What a feed makes one segment of: marks alone are nothing."""
    return " ".join(text.split()) if any(c.isalnum() for c in text) else ""


def ids_of(feed: SegmentFeed) -> list[list[int]]:
    return [segment.ids for segment in feed.segments]


@given(st.text(alphabet="theq uick.é'\n", max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_a_segment_has_the_ids_of_its_whole_text(text: str, cuts: list[int]) -> None:
    feed = SegmentFeed(TOKENIZER, LONG)
    places = sorted({min(c, len(text)) for c in cuts} | {0, len(text)})
    for begin, end in itertools.pairwise(places):
        feed.append(text[begin:end])
    feed.close()
    clean = said(text)
    assert ids_of(feed) == ([TOKENIZER.encode(clean)] if clean else [])
    assert all(segment.ended for segment in feed.segments)
    assert feed.empty == (not clean)


@given(st.text(alphabet="theq uick.,", max_size=120), st.integers(1, 40))
def test_segments_do_not_depend_on_the_size_of_deltas(text: str, size: int) -> None:
    whole, cut = (SegmentFeed(TOKENIZER, SplitPlan.trained_on(20)) for _ in range(2))
    whole.append(text)
    for at in range(0, len(text), size):
        cut.append(text[at : at + size])
    whole.close()
    cut.close()
    assert ids_of(cut) == ids_of(whole)


def test_ids_are_released_before_the_text_ends() -> None:
    feed = SegmentFeed(TOKENIZER, LONG)
    feed.append("the quick ")
    (segment,) = feed.segments
    whole = TOKENIZER.encode("the quick")
    assert segment.ids == whole[: len(segment.ids)]
    assert len(segment.ids) >= len(whole) - 1
    assert not segment.ended


def test_flush_ends_a_segment_and_the_next_text_opens_another() -> None:
    feed = SegmentFeed(TOKENIZER, LONG)
    feed.append("the fox ")
    feed.flush()
    feed.flush()
    feed.append(" the dog")
    feed.close()
    assert ids_of(feed) == [TOKENIZER.encode("the fox"), TOKENIZER.encode("the dog")]


def test_marks_alone_are_no_segment() -> None:
    feed = SegmentFeed(TOKENIZER, LONG)
    for text in ("the fox", ".", " - ", "..."):
        feed.append(text)
        feed.flush()
    feed.append("'")
    feed.append("the dog")
    feed.flush()
    feed.append(" !")
    feed.append_tokens([])
    feed.close()
    assert ids_of(feed) == [TOKENIZER.encode("the fox"), TOKENIZER.encode("'the dog")]
    words = [(word.text, word.begin, word.end) for segment in feed.segments for word in segment.words]
    assert words == [("the", 0, 3), ("fox", 4, 7), ("'the", 14, 18), ("dog", 19, 22)]
    assert feed.begun == 2


def test_tokens_from_outside_mix_with_text() -> None:
    feed = SegmentFeed(TOKENIZER, LONG)
    plain = TOKENIZER.encode("the quick")[1:-1]
    feed.append_tokens(plain[:1])
    feed.append(" fox")
    feed.append_tokens(plain[1:])
    feed.close()
    assert ids_of(feed) == [[BOS, plain[0], *TOKENIZER.encode(" fox")[1:-1], *plain[1:], EOS]]


@pytest.mark.parametrize("bad", [[-1], [0], [2], [10**6], [4, 330]])
def test_tokens_that_are_not_text_are_refused(bad: list[int]) -> None:
    with pytest.raises(TokenizerError, match="text token"):
        SegmentFeed(TOKENIZER, LONG).append_tokens(bad)


def test_token_segments_are_bounded() -> None:
    feed = SegmentFeed(TOKENIZER, SplitPlan.trained_on(40))
    feed.append_tokens([5] * 25)
    feed.close()
    assert [len(ids) - 2 for ids in ids_of(feed)] == [10, 10, 5]


def test_a_prompt_transcript_opens_every_segment() -> None:
    feed = SegmentFeed(TOKENIZER, SplitPlan.by_sentence(100), prefix=" the dog ")
    feed.append("the fox. the fox.")
    feed.close()
    assert ids_of(feed) == [TOKENIZER.encode("the dog the fox.")] * 2


def test_nothing_comes_after_the_end() -> None:
    feed = SegmentFeed(TOKENIZER, LONG)
    feed.close()
    with pytest.raises(ProtocolError):
        feed.append("x")
    with pytest.raises(ProtocolError):
        feed.append_tokens([5])


@given(st.text(alphabet="theq uick.é'", max_size=60), st.integers(1, 9))
def test_after_a_prompt_block_segments_go_on_after_a_space(text: str, size: int) -> None:
    """Prompt and target together have the ids of one text, however the target arrives."""
    feed = SegmentFeed(TOKENIZER, LONG, after_prompt=True)
    for start in range(0, len(text), size):
        feed.append(text[start : start + size])
    feed.close()
    clean = said(text)
    assert ids_of(feed) == ([TOKENIZER.encode(f" {clean}")[1:]] if clean else [])


def test_every_segment_after_a_prompt_block_is_without_a_beginning() -> None:
    feed = SegmentFeed(TOKENIZER, SplitPlan.by_sentence(100), after_prompt=True)
    feed.append("the fox. the dog.")
    feed.append_tokens([TOKENIZER.encode("fox")[1]])
    feed.close()
    assert len(feed.segments) >= 2
    assert all(BOS not in ids and ids[-1] == EOS for ids in ids_of(feed))
