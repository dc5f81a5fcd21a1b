"""What normalisation gives out, and the way back from spoken to written characters."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


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


@dataclass
class SourceMap:
    """Ranges of spoken characters to ranges of written ones. `forget` keeps it small for endless texts."""

    _pieces: deque[tuple[int, Spoken]] = field(default_factory=deque, init=False)
    length: int = field(default=0, init=False)

    def add(self, piece: Spoken) -> None:
        """The next piece of spoken text."""
        self._pieces.append((self.length, piece))
        self.length += len(piece.text)

    def locate(self, begin: int, end: int) -> tuple[int, int] | None:
        """The written range of spoken characters `[begin, end)`; None when nothing of it is known."""
        hit = [p for at, p in self._pieces if at < end and begin < at + len(p.text)]
        return (min(p.begin for p in hit), max(p.end for p in hit)) if hit else None

    def forget(self, before: int) -> None:
        """Pieces that end at or before this spoken position are not asked for any more."""
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1].text) <= before:
            self._pieces.popleft()
