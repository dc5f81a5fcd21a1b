"""The policy over time, on a clock that only the steps move: who is heard when, and whether anybody runs dry."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sled_tts.server.engine.scheduler import Candidate, Policy
from sled_tts.server.engine.streams import Playback

RATE = 75.0
FIRST = 7


@dataclass
class Simulated:
    """A stream that is heard after `FIRST` frames, then frame by frame, until it has spoken `frames`."""

    slot: int
    arrives: float
    frames: int
    playback: Playback = field(default_factory=lambda: Playback(RATE))
    made: int = 0
    passed_over: int = 0
    longest_wait: int = 0
    heard_at: float | None = None

    def stepped(self, now: float) -> None:
        self.made += 1
        if self.made >= FIRST:
            self.heard_at = now if self.heard_at is None else self.heard_at
            self.playback.deliver(now, FIRST if self.made == FIRST else 1)


def simulate(policy: Policy, streams: list[Simulated], step_s: float) -> None:
    now = 0.0
    while any(s.made < s.frames for s in streams):
        live = [s for s in streams if s.arrives <= now and s.made < s.frames]
        chosen = policy.choose([Candidate(s.slot, s.slot, s.playback.lead_s(now), s.passed_over) for s in live])
        now += step_s
        for s in live:
            s.passed_over = 0 if s.slot in chosen else s.passed_over + 1
            s.longest_wait = max(s.longest_wait, s.passed_over)
            if s.slot in chosen:
                s.stepped(now)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 2**16))
def test_nobody_runs_dry_while_the_device_keeps_up(count: int, rows: int, seed: int) -> None:
    """The device makes 1.5 times what `count` listeners hear, in steps of a row each or of several."""
    rng = random.Random(seed)
    step_s = min(rows, count) / (1.5 * count * RATE)
    streams = [Simulated(slot, rng.uniform(0.0, 1.0), rng.randint(20, 150)) for slot in range(count)]
    simulate(Policy(max_rows=rows), streams, step_s)
    assert [s.playback.underruns for s in streams] == [0] * count


def test_a_newcomer_is_heard_at_once_beside_streams_far_ahead() -> None:
    streams = [Simulated(slot, 0.0, 400) for slot in range(4)] + [Simulated(4, 2.0, 40)]
    step_s = 1 / (5 * RATE)
    simulate(Policy(max_rows=2), streams, step_s)
    heard_at = streams[4].heard_at
    assert heard_at is not None
    # Seven steps of its own and the one under way when it came.
    assert heard_at - 2.0 <= (FIRST + 1) * step_s + 1e-9
    assert all(s.playback.underruns == 0 for s in streams)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**16))
def test_everybody_gets_on_even_when_the_device_is_far_too_slow(
    count: int, rows: int, patience: int, seed: int
) -> None:
    rng = random.Random(seed)
    streams = [Simulated(slot, rng.uniform(0.0, 0.5), rng.randint(1, 60)) for slot in range(count)]
    simulate(Policy(max_rows=rows, patience=patience), streams, 3.0 / RATE)
    assert all(s.longest_wait <= patience + count for s in streams)


@given(
    st.lists(st.tuples(st.none() | st.floats(-5, 20), st.integers(0, 40)), max_size=12),
    st.randoms(),
    st.integers(1, 12),
)
def test_a_choice_is_distinct_bounded_and_blind_to_the_order_of_the_list(
    known: list[tuple[float | None, int]], rng: random.Random, rows: int
) -> None:
    policy = Policy(max_rows=rows)
    candidates = [Candidate(slot, slot, lead, passed) for slot, (lead, passed) in enumerate(known)]
    chosen = policy.choose(candidates)
    assert len(set(chosen)) == len(chosen) <= rows
    assert bool(chosen) == bool(candidates)
    shuffled = list(candidates)
    rng.shuffle(shuffled)
    assert policy.choose(shuffled) == chosen
    waiting = [c for c in candidates if c.slot not in chosen]
    served = [c for c in candidates if c.slot in chosen and c.passed_over < policy.patience and c.lead_s is not None]
    for left in waiting:
        if left.lead_s is None or left.passed_over >= policy.patience:
            # Whoever has waited for first audio, or too long, is passed over only for others like it.
            assert not served


@pytest.mark.parametrize("lead", [None, 0.1])
def test_one_alone_always_runs(lead: float | None) -> None:
    assert Policy(max_rows=1).choose([Candidate(3, 9, lead)]) == [3]
