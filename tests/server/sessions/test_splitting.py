"""Where text is cut, whatever deltas it arrives in."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from sled_tts.server.sessions.splitting import SplitPlan, Splitter

TEXTS = st.text(alphabet="ab .,!?\n\"'。é", max_size=200)


def segments(text: str, plan: SplitPlan, cuts: list[int] | None = None) -> list[str]:
    splitter = Splitter(plan)
    out = [""]
    places = sorted({min(c, len(text)) for c in cuts or []} | {0, len(text)})
    for begin, end in itertools.pairwise(places):
        for piece in splitter.feed(text[begin:end]):
            out[-1] += piece.text
            if piece.ends:
                out.append("")
    return [part.strip() for part in out if part.strip()]


def test_sentences_end_segments_once_they_are_long_enough() -> None:
    plan = SplitPlan.trained_on(60)
    text = "Yes. It rained all day, and nobody came. Dr. Smith waited at home for hours."
    assert segments(text, plan) == [
        "Yes. It rained all day, and nobody came.",
        "Dr. Smith waited at home for hours.",
    ]


def test_by_sentence_cuts_after_every_sentence_but_not_after_abbreviations() -> None:
    plan = SplitPlan.by_sentence(200)
    text = 'He met J. R. Brown, e.g. at noon. "Really?" she said. Mr. X left!'
    assert segments(text, plan) == ["He met J. R. Brown, e.g. at noon.", '"Really?"', "she said.", "Mr. X left!"]


def test_the_answer_no_ends_a_sentence() -> None:
    assert segments("Is it? The answer is no. It went.", SplitPlan.by_sentence(200)) == [
        "Is it?",
        "The answer is no.",
        "It went.",
    ]


def test_a_long_sentence_ends_at_a_clause_else_at_a_word_else_anywhere() -> None:
    plan = SplitPlan.trained_on(40)
    assert segments("one two three four five six, seven eight nine", plan) == [
        "one two three four five six,",
        "seven eight nine",
    ]
    assert segments("alpha beta gamma delta epsilon zeta eta theta", plan)[0] == "alpha beta gamma delta epsilon zeta"
    assert segments("x" * 100, plan) == ["x" * 40, "x" * 40, "x" * 20]


def test_white_space_is_one_space_and_never_opens_a_segment() -> None:
    assert segments("  a \n\n b\t", SplitPlan.bounded_by(100)) == ["a b"]


@given(TEXTS, st.lists(st.integers(0, 200), max_size=12), st.sampled_from([8, 20, 60]))
@example("a. b", [2], 8)
def test_cuts_do_not_depend_on_deltas_and_lose_nothing(text: str, cuts: list[int], limit: int) -> None:
    for plan in (SplitPlan.trained_on(limit), SplitPlan.by_sentence(limit), SplitPlan.bounded_by(limit)):
        whole = segments(text, plan)
        assert segments(text, plan, cuts) == whole
        assert "".join("".join(whole).split()) == "".join(text.split())
        assert all(len(part) <= limit for part in whole)
