"""Where speech is cut into chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sled_tts.server.engine.chunks import ChunkPolicy

POLICY = ChunkPolicy(first=7, unit=4)


def test_the_first_chunk_is_as_small_as_exact_decoding_allows() -> None:
    assert POLICY.next_cuts(0, 6, 0, 0.0, final=False) == []
    assert POLICY.next_cuts(0, 7, 0, 0.0, final=False) == [7]


def test_chunks_grow_with_measured_lead() -> None:
    assert POLICY.next_cuts(7, 11, 0, 0.1, final=False) == [11]
    assert POLICY.next_cuts(7, 11, 0, 0.5, final=False) == []
    assert POLICY.next_cuts(7, 15, 0, 0.5, final=False) == [11, 15]
    assert POLICY.next_cuts(7, 19, 0, 5.0, final=False) == []
    assert POLICY.next_cuts(7, 23, 0, 5.0, final=False) == [11, 15, 19, 23]


def test_a_long_prompt_is_decoded_on_its_own_and_only_with_something_to_hear() -> None:
    assert POLICY.next_cuts(0, 23, 20, 0.0, final=False) == []
    assert POLICY.next_cuts(0, 24, 20, 0.0, final=False) == [20, 24]
    assert POLICY.next_cuts(0, 22, 20, 0.0, final=True) == [20, 22]


def test_a_prompt_shorter_than_the_first_chunk_shares_it() -> None:
    assert POLICY.next_cuts(0, 6, 3, 0.0, final=False) == []
    assert POLICY.next_cuts(0, 7, 3, 0.0, final=False) == [7]


@given(st.integers(1, 80), st.integers(0, 30), st.lists(st.floats(-1, 3), min_size=1, max_size=20))
def test_decode_calls_depend_on_the_frames_alone(frames: int, prompt: int, leads: list[float]) -> None:
    """Whatever the pace, the same calls are made, and together they cover every frame once."""
    calls: list[int] = []
    decoded = 0
    for spoken in range(1, frames + 1):
        final = spoken == frames
        for cut in POLICY.next_cuts(decoded, prompt + spoken, prompt, leads[spoken % len(leads)], final):
            calls.append(cut)
            decoded = cut
    total = prompt + frames
    first = max(7, prompt)
    expected = [total] if total <= first else [first, *range(first + 4, total, 4), total]
    assert calls == expected


def test_a_primed_stream_is_heard_after_two_frames_and_its_cells_double() -> None:
    assert POLICY.next_cuts(20, 21, 20, 0.0, final=False, primed=True) == []
    assert POLICY.next_cuts(20, 22, 20, 0.0, final=False, primed=True) == [22]
    assert POLICY.next_cuts(22, 24, 20, 0.0, final=False, primed=True) == [24]
    assert POLICY.next_cuts(24, 27, 20, 0.0, final=False, primed=True) == []
    assert POLICY.next_cuts(24, 31, 20, 0.5, final=False, primed=True) == []
    assert POLICY.next_cuts(24, 32, 20, 0.5, final=False, primed=True) == [28, 32]
    assert POLICY.next_cuts(20, 21, 20, 0.0, final=True, primed=True) == [21]


def test_the_first_cell_of_a_primed_stream_is_the_smallest_with_something_to_hear() -> None:
    assert [POLICY.primed_cut(behind) for behind in range(6)] == [2, 2, 3, 4, 4, 4]
    assert POLICY.next_cuts(20, 22, 20, 0.0, final=False, primed=True, behind=2) == []
    assert POLICY.next_cuts(20, 23, 20, 0.0, final=False, primed=True, behind=2) == [23]
    assert POLICY.next_cuts(23, 25, 20, 0.0, final=False, primed=True, behind=2) == []
    assert POLICY.next_cuts(23, 26, 20, 0.0, final=False, primed=True, behind=2) == [26]
    assert POLICY.next_cuts(26, 29, 20, 0.0, final=False, primed=True, behind=2) == []
    assert POLICY.next_cuts(20, 22, 20, 0.0, final=True, primed=True, behind=2) == [22]


@given(st.integers(1, 80), st.integers(7, 30), st.lists(st.floats(-1, 3), min_size=1, max_size=20), st.integers(0, 5))
def test_decode_calls_of_primed_streams_depend_on_the_frames_alone(
    frames: int, prompt: int, leads: list[float], behind: int
) -> None:
    calls: list[int] = []
    decoded = prompt
    for spoken in range(1, frames + 1):
        lead, final = leads[spoken % len(leads)], spoken == frames
        for cut in POLICY.next_cuts(decoded, prompt + spoken, prompt, lead, final, True, behind):
            calls.append(cut)
            decoded = cut
    total = prompt + frames
    first = POLICY.primed_cut(behind)
    opening = [prompt + first] if first == 4 else [prompt + first, prompt + 2 * first]
    grid = [cut for cut in (*opening, *range(opening[-1] + 4, total, 4)) if cut < total]
    assert calls == [*grid, total]
