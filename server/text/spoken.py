"""What normalisation gives out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spoken:
    """Text to say, and the range of written characters `[begin, end)` it came from."""

    text: str
    begin: int
    end: int


@dataclass(frozen=True)
class Skipped:
    """Written characters `[begin, end)` in a script that is not spoken; `sample` is how they start."""

    script: str
    sample: str
    begin: int
    end: int
