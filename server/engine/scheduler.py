"""Who runs in the next step: a pure function of what is known about each stream.

First audio comes first, then whoever's listener runs dry soonest; a stream far ahead of its listener waits while
another is in need, but never longer than `patience` steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A stream that could run now.

    `lead_s` is how far it is ahead of its listener, None before its first audio; `passed_over` counts the steps it
    has been left out in a row; `arrival` orders streams by admission.
    """

    slot: int
    arrival: int
    lead_s: float | None
    passed_over: int = 0


@dataclass(frozen=True)
class Policy:
    """`max_rows` bounds a step. While someone has less than `urgent_s` of lead, those beyond `ahead_s` wait."""

    max_rows: int
    urgent_s: float = 0.25
    ahead_s: float = 1.0
    patience: int = 16

    def choose(self, candidates: Sequence[Candidate]) -> list[int]:
        """Slots of the next step, most urgent first."""
        ranked = sorted(candidates, key=self._rank)
        in_need = any(c.lead_s is None or c.lead_s < self.urgent_s for c in ranked)
        chosen = [
            c.slot
            for c in ranked
            if not in_need or c.lead_s is None or c.lead_s <= self.ahead_s or c.passed_over >= self.patience
        ]
        return chosen[: self.max_rows]

    def _rank(self, c: Candidate) -> tuple[int, float, int]:
        if c.passed_over >= self.patience:
            return (0, float(-c.passed_over), c.arrival)
        if c.lead_s is None:
            return (1, 0.0, c.arrival)
        return (2, c.lead_s, c.arrival)
