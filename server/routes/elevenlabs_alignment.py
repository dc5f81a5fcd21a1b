"""When each character is heard. From word timings where the checkpoint has them, evenly spread otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sled_tts.server.engine.request import WordTiming

# How fast English is read, for text whose timing nobody knows.
_CHARACTERS_A_SECOND = 15.0


@dataclass(frozen=True)
class Character:
    """Seconds of the audio as it is heard."""

    text: str
    start_s: float
    duration_s: float


def relative(characters: Sequence[Character], since_s: float) -> list[Character]:
    """The same with times counted from `since_s`."""
    return [replace(one, start_s=one.start_s - since_s) for one in characters]


@dataclass
class Alignment:
    """Gives every character of one utterance's text exactly one time, in order; `pace` is the speech rate.

    With `words` a character has the share of its word, white space the pause. Without, characters are spread over
    each chunk as it comes, at reading speed; what is left when a flush has been spoken belongs to its last chunk.
    """

    pace: float = 1.0
    _text: str = field(default="", init=False)
    _timed: int = field(default=0, init=False)
    _ends: list[int] = field(default_factory=list, init=False)
    _until_s: float = field(default=0.0, init=False)
    _heard_s: float = field(default=0.0, init=False)
    _budget: float = field(default=0.0, init=False)
    _exact: bool = field(default=False, init=False)
    _ready: list[Character] = field(default_factory=list, init=False)

    def append(self, text: str) -> None:
        """More text, as it was sent."""
        self._text += text

    def mark(self) -> None:
        """A flush, or the end: all text so far will have been heard when `spoken` is called for it."""
        self._ends.append(len(self._text))

    def words(self, words: Sequence[WordTiming]) -> None:
        """Timings of the next words, at pace 1."""
        self._exact = True
        for word in words:
            start, end = word.start_s / self.pace, word.end_s / self.pace
            self._spread(min(word.begin, len(self._text)), start)
            self._until_s = max(self._until_s, start)
            self._spread(min(word.end, len(self._text)), end)

    def chunk(self, seconds: float) -> list[Character]:
        """Audio of `seconds` at pace 1 follows: what to tell with it."""
        self._heard_s += seconds / self.pace
        if not self._exact:
            self._budget += seconds * _CHARACTERS_A_SECOND
            limit = self._ends[0] if self._ends else len(self._text)
            count = min(int(self._budget), limit - self._timed)
            self._budget = min(self._budget - count, _CHARACTERS_A_SECOND)
            if count:
                self._spread(self._timed + count, self._heard_s)
        return self._take()

    def spoken(self) -> list[Character]:
        """The oldest mark has been spoken: what is left up to it."""
        if self._ends:
            self._spread(self._ends.pop(0), self._heard_s)
            self._budget = 0.0
        return self._take()

    def _spread(self, until: int, end_s: float) -> None:
        """Characters up to `until` share the time up to `end_s`."""
        text = self._text[self._timed : until]
        if not text:
            return
        end_s = max(end_s, self._until_s)
        each = (end_s - self._until_s) / len(text)
        self._ready += [Character(one, self._until_s + each * place, each) for place, one in enumerate(text)]
        self._timed, self._until_s = until, end_s

    @property
    def marked(self) -> bool:
        """Whether there are marks that have not been spoken."""
        return bool(self._ends)

    def _take(self) -> list[Character]:
        ready, self._ready = self._ready, []
        return ready
