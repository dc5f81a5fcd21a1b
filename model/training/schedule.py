"""Learning rate over the steps of a run."""

from __future__ import annotations


def linear_schedule(step: int, *, steps: int, warmup: int, peak: float, floor: float = 0.02) -> float:
    """Linear warm-up to `peak` over `warmup` steps, then linear decay towards zero at `steps` (the reference's
    schedule), never below `floor` of the peak."""
    return peak * min(1.0, (step + 1) / max(1, warmup)) * max(floor, 1.0 - step / steps)
