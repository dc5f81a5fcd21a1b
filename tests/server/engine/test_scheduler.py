"""The scheduling policy: a pure function, so every rule can be stated on its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sled_tts.server.engine.scheduler import Candidate, Policy


def test_everybody_runs_when_there_is_room() -> None:
    policy = Policy(max_rows=4)
    assert sorted(policy.choose([Candidate(s, s, 0.5) for s in range(4)])) == [0, 1, 2, 3]


def test_first_audio_comes_first_in_order_of_arrival_then_whoever_runs_dry_soonest() -> None:
    policy = Policy(max_rows=3)
    candidates = [Candidate(0, 5, 0.9), Candidate(1, 6, None), Candidate(2, 4, None), Candidate(3, 1, 0.1)]
    assert policy.choose(candidates) == [2, 1, 3]


def test_those_far_ahead_wait_only_while_somebody_is_in_need() -> None:
    policy = Policy(max_rows=8, urgent_s=0.2, ahead_s=1.0)
    ahead, needy, calm = Candidate(0, 0, 5.0), Candidate(1, 1, 0.1), Candidate(2, 2, 0.6)
    assert set(policy.choose([ahead, needy, calm])) == {1, 2}
    assert set(policy.choose([ahead, calm])) == {0, 2}


@given(
    st.lists(st.none() | st.floats(-2, 10), min_size=2, max_size=12),
    st.integers(1, 4),
    st.integers(1, 8),
)
def test_nobody_starves(leads: list[float | None], rows: int, patience: int) -> None:
    """Leads that never improve are the worst case: still everybody runs within a bounded number of steps."""
    policy = Policy(max_rows=rows, patience=patience)
    waits = dict.fromkeys(range(len(leads)), 0)
    longest = 0
    for _ in range(200):
        chosen = policy.choose([Candidate(s, s, lead, waits[s]) for s, lead in enumerate(leads)])
        assert 1 <= len(chosen) <= rows
        for slot in waits:
            waits[slot] = 0 if slot in chosen else waits[slot] + 1
        longest = max(longest, *waits.values())
    assert longest <= patience + len(leads)
