"""How much of the machine there is to use. No torch: what only sends load imports this too."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
