"""The n:m cursor: one order for training and serving, however the text arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sled_tts.model.interleave import Action, TurnCursor, training_layout
from tests.model.factories import TINY
from tests.reference import NaiveSled

Sequence = list[tuple[str, int]]


def _run(cursor: TurnCursor, ids: list[int], arrivals: list[int], frames: int) -> tuple[Sequence, int]:
    """Write `frames` frames while text arrives in pieces, feeding only when the cursor is starved."""
    out: Sequence = []
    fed = written = starved = 0
    pieces = iter(arrivals)
    while written < frames:
        match cursor.next_action():
            case Action.READ:
                out += [("text", ids[i]) for i in cursor.read()]
            case Action.WRITE:
                out.append(("speech", written))
                cursor.wrote()
                written += 1
            case Action.NEED_TEXT:
                starved += 1
                piece = min(next(pieces, len(ids)), len(ids) - fed)
                cursor.feed(piece)
                fed += piece
                if fed == len(ids):
                    cursor.end_text()
    return out, starved


@given(
    st.integers(1, 20),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 40),
    st.lists(st.integers(0, 4), max_size=30),
)
def test_the_order_does_not_depend_on_how_text_arrives(
    tokens: int, n: int, m: int, frames: int, arrivals: list[int]
) -> None:
    ids = list(range(100, 100 + tokens))
    got, _ = _run(TurnCursor(n, m), ids, arrivals, frames)
    naive = NaiveSled(TINY, {}).before_frame(frames - 1, ids, n, m)
    assert got[:-1] == naive
    assert got[-1] == ("speech", frames - 1)


@given(st.integers(1, 20), st.integers(1, 30))
def test_offline_reads_everything_before_it_writes(tokens: int, frames: int) -> None:
    ids = list(range(tokens))
    got, _ = _run(TurnCursor(None, None), ids, [1] * tokens, frames)
    assert got == [("text", i) for i in ids] + [("speech", s) for s in range(frames)]


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 30))
def test_no_turn_starts_before_its_text_is_there(n: int, m: int, tokens: int) -> None:
    """With text still to come, at most `m * (tokens // n)` frames are written, and as many are."""
    cursor = TurnCursor(n, m)
    cursor.feed(tokens)
    written = 0
    while (action := cursor.next_action()) is not Action.NEED_TEXT:
        if action is Action.READ:
            assert len(cursor.read()) == n
        else:
            assert not cursor.final_turn
            cursor.wrote()
            written += 1
    assert written == m * (tokens // n)


def test_text_after_its_end_is_refused() -> None:
    cursor = TurnCursor(2, 2)
    cursor.feed(2)
    cursor.end_text()
    with pytest.raises(ValueError, match="after its end"):
        cursor.feed(1)


def test_reading_out_of_turn_is_refused() -> None:
    cursor = TurnCursor(3, 2)
    cursor.feed(2)
    with pytest.raises(ValueError, match="nothing may be read"):
        cursor.read()


@given(st.integers(1, 20), st.integers(1, 60), st.integers(1, 7), st.integers(1, 7))
def test_training_order_holds_everything_once_and_starts_as_inference_does(
    tokens: int, frames: int, n: int, m: int
) -> None:
    order = training_layout(tokens, frames, n, m)
    assert (sum(order), len(order) - sum(order)) == (tokens, frames)
    cycles = min(tokens // n, frames // m)
    ids = list(range(tokens))
    inference = NaiveSled(TINY, {}).before_frame(cycles * m, ids, n, m) if cycles else []
    shared = cycles * (n + m)
    assert order[:shared] == [kind == "text" for kind, _ in inference[:shared]]
    assert order[shared : shared + min(n, tokens - cycles * n)] == [True] * min(n, tokens - cycles * n)
