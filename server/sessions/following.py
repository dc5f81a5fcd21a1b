"""When each word of a segment is spoken, by where the network looks in the text while it speaks it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sled_tts.model.text_path import TextPath
from sled_tts.server.engine.request import AudioChunk, Float32, WordTiming
from sled_tts.server.sessions.timings import Pace, Word

# Between words of one breath; a longer way to the next word holds a pause and says nothing about the pace.
_BREATH_S = 1.0


@dataclass
class TextFollower:
    """One segment: words with the token they begin in, looks in; timings out.

    A word begins when the likeliest way through the looks gets to it, `lead_s` later in the sound. `frame_s`: seconds a
    frame; `begin_s`, `not_before_s` as of `WordAligner`. Ends are forecasts by the pace so far.
    """

    frame_s: float
    lead_s: float
    pace: Pace
    begin_s: float = 0.0
    not_before_s: float = 0.0
    told: list[WordTiming] = field(default_factory=list, init=False)
    _words: deque[tuple[Word, int]] = field(default_factory=deque, init=False)
    _path: TextPath | None = field(default=None, init=False)
    _early: list[Float32] = field(default_factory=list, init=False)
    _last: Word | None = field(default=None, init=False)

    def add(self, word: Word, token: int) -> None:
        """The next word, once it is complete; `token` is the index of the one that holds its first character."""
        if self._path is None:
            # A prefix may come before it; its own first character is what it has to be recognised by.
            self._path = TextPath(max(0, token - 1))
            for look in self._early:
                self._path.see(look)
            self._early.clear()
        self._words.append((word, token))

    def hear(self, chunk: AudioChunk) -> list[WordTiming]:
        """Words that begin in these frames, or did so before and are only known now, in order."""
        before = len(self.told)
        for look in chunk.looks:
            if self._path is None:
                self._early.append(look)
                continue
            self._path.see(look)
            self._tell_reached(self._path)
        return self.told[before:]

    def finish(self) -> list[WordTiming]:
        """The segment's audio has ended: whatever has not been told yet was said by now."""
        before = len(self.told)
        if self._path is not None:
            self._tell_reached(self._path)
        ended = (self._path.frames if self._path is not None else len(self._early)) * self.frame_s
        left = sum(word.units for word, _ in self._words) * self.pace.unit_s
        at = max(self.told[-1].start_s - self.begin_s if self.told else 0.0, ended - left)
        while self._words:
            word, _ = self._words.popleft()
            length = min(word.units * self.pace.unit_s, max(0.0, ended - at))
            self._tell(word, at, length)
            at += length
        return self.told[before:]

    def _tell_reached(self, path: TextPath) -> None:
        while self._words:
            word, token = self._words[0]
            frame = path.reached(token)
            if frame is None:
                return
            self._words.popleft()
            # Nothing moved on to a word that was looked at from the beginning: the sound begins with it.
            start = frame * self.frame_s + (self.lead_s if frame else 0.0)
            self._observe(word, start)
            self._tell(word, start, word.units * self.pace.unit_s)

    def _observe(self, word: Word, start: float) -> None:
        last, self._last = self._last, word
        if last is not None and not last.ends_phrase:
            spoken = self.begin_s + start - self.told[-1].start_s
            if 0 < spoken < _BREATH_S:
                self.pace.observe(last.units, spoken)

    def _tell(self, word: Word, start: float, length: float) -> None:
        earliest = self.told[-1].start_s if self.told else max(self.begin_s, self.not_before_s)
        start_s = max(earliest, self.begin_s + start)
        self.told.append(WordTiming(word.text, start_s, start_s + max(0.0, length), word.begin, word.end))
