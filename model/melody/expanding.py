"""What a small codec says too loudly: the noise between harmonics and beneath fricatives, turned down as it is heard.

A downward expander: in each band what lies further below the band's usual loud level than a threshold sinks by a share
of how much further (as noise reduction by spectral subtraction does, Boll 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sled_tts.model.melody.dynamics import Dynamics, Float32

# Nothing is as much below.
_RANGE_DB = 90.0


@dataclass(frozen=True)
class Expansion:
    """`levels_db [W / 2 + 1]`: how loud each band of windows of W samples is at its loudest, in dB as
    `dynamics.levels` gives them. What is more than `threshold_db` below sinks by `slope` times the rest."""

    levels_db: Float32 = field(repr=False)
    threshold_db: float = 15.0
    slope: float = 0.5

    def __post_init__(self) -> None:
        if self.levels_db.ndim != 1:
            raise ValueError(f"levels_db must hold W / 2 + 1 levels, got {self.levels_db.shape}")
        if not (0 <= self.threshold_db <= 80 and 0 <= self.slope <= 4):
            raise ValueError("threshold_db must be in [0, 80] and slope in [0, 4]")
        # Found out here whether the levels are any, and not when somebody wants to speak.
        _ = self.dynamics

    @cached_property
    def dynamics(self) -> Dynamics:
        top = self.levels_db - np.float32(self.threshold_db)
        lost = np.full_like(top, -_RANGE_DB * self.slope)
        return Dynamics(np.stack([top - np.float32(_RANGE_DB), top]), np.stack([lost, np.zeros_like(lost)]))


def expansion_from(entry: object) -> Expansion:
    """Of a table with `levels_db` and, if it likes, the other fields. Raises ValueError or TypeError."""
    if not isinstance(entry, dict):
        raise TypeError(f"expansion must be a table, got {entry!r}")
    if wrong := sorted(set(entry) - {"levels_db", "threshold_db", "slope"}):
        raise ValueError(f"expansion: unknown key {wrong[0]}")
    given: Sequence[float] = entry.get("levels_db", ())
    rest = {name: float(value) for name, value in entry.items() if name != "levels_db"}
    return Expansion(np.asarray(given, dtype=np.float32), **rest)
