"""When each word of a segment is spoken, found while it is being spoken.

A word is expected as long after its phrase began as its length and the voice's pace so far say; phrases begin where
the sound does, so every pause at punctuation sets the clock right. Costs a few operations for each 10 ms of audio.
For checkpoints that do not say which of their heads follow the text; `following` is for those that do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from sled_tts.server.engine.request import AudioChunk, Float32, WordTiming
from sled_tts.server.sessions.marks import ends_phrase

_HOP_S = 0.01
# Parts of the loudest 10 ms so far; closures of stops are shorter than a pause.
_SILENT = 0.04
_PAUSE_S = 0.09
_HESITATION_S = 0.15
_NEAR_S = 0.35
_VOWELS = frozenset("aeiouyàáâäèéêëìíîïòóôöùúûü")


@dataclass(frozen=True)
class Word:
    """A word of a segment; `begin`, `end` are its characters in the text as it was sent, `at` is its first byte in the
    segment as it was tokenised."""

    text: str
    begin: int
    end: int
    at: int = 0

    @property
    def ends_phrase(self) -> bool:
        return ends_phrase(self.text)

    @property
    def units(self) -> float:
        """Length in letters, vowels counting double: they are what is long."""
        letters = [c for c in self.text.lower() if c.isalnum()]
        return 1.0 + len(letters) + sum(c in _VOWELS for c in letters)


@dataclass
class Pace:
    """Seconds a unit, followed from phrase to phrase; it outlives segments."""

    unit_s: float = 0.04
    trust: float = 0.3

    def observe(self, units: float, seconds: float) -> None:
        """A phrase was heard; what is far from anything said before is not believed."""
        found = seconds / units if units else 0.0
        if 0.5 < found / self.unit_s < 2.0:
            self.unit_s += self.trust * (found - self.unit_s)


@dataclass
class WordAligner:
    """One segment: words in, audio in, timings out. `begin_s`: where the segment starts in the utterance;
    no word starts before `not_before_s`, the start of the last one told."""

    rate: int
    pace: Pace
    begin_s: float = 0.0
    not_before_s: float = 0.0
    told: list[WordTiming] = field(default_factory=list, init=False)
    _words: deque[Word] = field(default_factory=deque, init=False)
    _rest: Float32 = field(default_factory=lambda: np.zeros(0, np.float32), init=False)
    _hops: int = field(default=0, init=False)
    _peak: float = field(default=1e-4, init=False)
    _quiet: int = field(default=0, init=False)
    _paused: bool = field(default=True, init=False)
    _phrase_at: float | None = field(default=None, init=False)
    _units: float = field(default=0.0, init=False)
    _phrase_done: bool = field(default=False, init=False)

    def add(self, word: Word, token: int) -> None:
        """The next word, once it is complete; which token it begins with does not matter here."""
        self._words.append(word)

    def hear(self, chunk: AudioChunk) -> list[WordTiming]:
        """Words that begin in this audio (or began before it and were late), in order."""
        hop = round(_HOP_S * self.rate)
        audio = np.concatenate([self._rest, chunk.pcm])
        whole = len(audio) // hop
        self._rest = audio[whole * hop :]
        levels = np.sqrt(np.mean(audio[: whole * hop].reshape(whole, hop) ** 2, axis=1)) if whole else ()
        before = len(self.told)
        for level in levels:
            self._hop(float(level))
        return self.told[before:]

    def finish(self) -> list[WordTiming]:
        """The segment's audio has ended: whatever has not been told yet was said by now."""
        before, now = len(self.told), self._hops * _HOP_S
        ended = now - self._quiet * _HOP_S if self._quiet else now
        self._end_phrase(ended)
        left = sum(word.units for word in self._words) * self.pace.unit_s
        earliest = self.told[-1].start_s - self.begin_s if self.told else 0.0
        at = max(earliest, ended - left)
        while self._words:
            word = self._words.popleft()
            length = min(word.units * self.pace.unit_s, max(0.0, ended - at))
            self._tell(word, at, at + length)
            at += length
        return self.told[before:]

    def _hop(self, level: float) -> None:
        now = self._hops * _HOP_S
        self._hops += 1
        self._peak = max(self._peak, level)
        if level < _SILENT * self._peak:
            self._quiet += 1
            self._silence(now)
        else:
            if self._paused:
                self._sound(now)
            self._quiet, self._paused = 0, False
        self._expect(now)

    def _silence(self, now: float) -> None:
        quiet_s = self._quiet * _HOP_S
        if self._paused or quiet_s < _PAUSE_S or self._phrase_at is None:
            return
        began = now - quiet_s + _HOP_S
        left = self._phrase_left()
        if self._phrase_done or (left is not None and left * self.pace.unit_s <= _NEAR_S):
            while not self._phrase_done and self._words:
                self._say(began)
            self._end_phrase(began)
            self._paused = True
        elif quiet_s >= _HESITATION_S:
            # Not where the text has a pause: the clock stands while the voice is silent.
            self._phrase_at += quiet_s if quiet_s < _HESITATION_S + _HOP_S else _HOP_S

    def _sound(self, now: float) -> None:
        if self._phrase_at is None:
            self._phrase_at, self._units, self._phrase_done = now, 0.0, False

    def _expect(self, now: float) -> None:
        while self._words and self._phrase_at is not None:
            due = self._phrase_at + self._units * self.pace.unit_s
            if self._phrase_done:
                # A pause is due; a voice that makes none goes straight on.
                if now < due + _NEAR_S:
                    return
                self._phrase_at, self._units, self._phrase_done = due, 0.0, False
            if now + _HOP_S <= due:
                return
            self._say(due)

    def _say(self, at: float) -> None:
        word = self._words.popleft()
        assert self._phrase_at is not None
        due = self._phrase_at + self._units * self.pace.unit_s
        self._units += word.units
        start = min(at, due)
        self._tell(word, start, start + word.units * self.pace.unit_s)
        self._phrase_done = word.ends_phrase

    def _tell(self, word: Word, start: float, end: float) -> None:
        earliest = self.told[-1].start_s if self.told else max(self.begin_s, self.not_before_s)
        start_s = max(earliest, self.begin_s + start)
        self.told.append(WordTiming(word.text, start_s, max(start_s, self.begin_s + end), word.begin, word.end))

    def _phrase_left(self) -> float | None:
        """Units up to the next end of a phrase among the words known, None when that is not known."""
        left = 0.0
        for word in self._words:
            left += word.units
            if word.ends_phrase:
                return left
        return None

    def _end_phrase(self, at: float) -> None:
        if self._phrase_at is not None and self._phrase_done:
            self.pace.observe(self._units, at - self._phrase_at)
        self._phrase_at = None
