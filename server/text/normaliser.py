"""The streaming normaliser: characters in, pieces of speakable text out.

Every decision is made on the arrival of one character and depends on the characters before it alone, so how a text
is cut into deltas cannot matter. A word is held until its separator, and longer only while the rules (`words.py`)
say that what comes next may change how it is said.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from sled_tts.model.errors import TokenizerError
from sled_tts.server.text.asides import Asides
from sled_tts.server.text.characters import plain, script
from sled_tts.server.text.context import Ahead, Before, Kind, Reading, last_mark
from sled_tts.server.text.foreign import ForeignLetters
from sled_tts.server.text.lines import CAPITAL, WRAPPED, Line, goes_on, opened
from sled_tts.server.text.markup import Markup
from sled_tts.server.text.parts import speakable
from sled_tts.server.text.spoken import Skipped, Spoken
from sled_tts.server.text.words import read_word

# No word is this long; text without spaces must not be held for ever.
_LONGEST = 256
_SIMPLE = re.compile(r"[A-Za-z]+(?:'[a-z]+)?[.,!?]?")


@dataclass
class _Token:
    text: str
    begin: int
    end: int
    code: bool = False
    space: bool = True
    verbatim: bool = False


@dataclass
class Normaliser:
    """`foreign`: whether letters of other scripts are handed on as they are instead of being skipped."""

    foreign: bool = False
    _at: int = field(default=0, init=False)
    _word: str = field(default="", init=False)
    _begin: int = field(default=0, init=False)
    _queue: deque[_Token] = field(default_factory=deque, init=False)
    _line: Line = field(default=Line.START, init=False)
    _markup: Markup = field(default_factory=Markup, init=False)
    _asides: Asides = field(default_factory=Asides, init=False)
    _before: Before = field(default_factory=Before, init=False)
    _fence: str = field(default="", init=False)
    _last: str = field(default="", init=False)
    _place: tuple[int, int] = field(default=(0, 0), init=False)
    _owed: bool = field(default=False, init=False)
    _spaced: bool = field(default=False, init=False)
    _block_before: bool = field(default=False, init=False)
    _line_spoke: bool = field(default=False, init=False)
    _cell: bool = field(default=False, init=False)
    _line_at: int = field(default=0, init=False)
    _short: bool = field(default=False, init=False)
    _bold: tuple[bool, bool] = field(default=(False, False), init=False)
    _ends_line: bool = field(default=False, init=False)
    _scripts: ForeignLetters = field(init=False)

    def __post_init__(self) -> None:
        self._scripts = ForeignLetters(self.foreign)

    def feed(self, text: str) -> Iterator[Spoken | Skipped]:
        """What can be said now. Raises TokenizerError for text that is not Unicode."""
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise TokenizerError("text holds a lone surrogate, which is not Unicode")
        for character in text:
            # Inside a word, with nothing waiting, there is nothing to decide: most characters end here.
            if self._word and not self._queue and character.isalnum() and len(self._word) < _LONGEST - 1:
                self._word += character
            else:
                yield from self._character(character)
            self._at += 1

    def flush(self) -> Iterator[Spoken | Skipped]:
        """All that is held; what follows is not joined to it."""
        yield from self._finish_line()
        yield from self._scripts.take()

    def _finish_line(self) -> Iterator[Spoken | Skipped]:
        self._ends_line = True
        yield from self._finish_word()
        yield from self._drain(Ahead("", True))
        self._ends_line = False

    def _character(self, c: str) -> Iterator[Spoken | Skipped]:
        if c == "\n":
            yield from self._finish_line()
            yield from self._end_line()
        elif c in "\r\ufeff\u2060\u200e\u200f":
            # No word begins with it. What a carriage return does is decided by what follows.
            self._word += c if self._word else ""
        elif c.isspace() or c in "\u200b\u2028\u2029\x00":
            yield from self._finish_word()
        elif c == "|" and self._fence == "" and self._cells(c):
            yield from self._finish_word()
            yield from self._drain(Ahead("", True))
            self._cell = self._line_spoke
        else:
            if not self._word:
                self._begin = self._at
            self._word += c
            if len(self._word) >= _LONGEST:
                yield from self._finish_word(space=False)
            elif self._queue:
                yield from self._drain(Ahead(self._word.lstrip("*_`"), False))

    def _cells(self, c: str) -> bool:
        if self._line is Line.START and not self._word:
            self._line = Line.TABLE
        return self._line is Line.TABLE

    def _finish_word(self, space: bool = True) -> Iterator[Spoken | Skipped]:
        word = self._word.rstrip("\r")
        begin, end = self._begin, self._begin + len(word)
        self._word = ""
        if not word:
            return
        fenced = self._fence
        if self._structure(word):
            if self._fence and not fenced:
                yield from self._pause(".")
                yield from self._say("Code block", ".", _Token(word, begin, end), end)
            return
        self._bold = (word[:2] == "**" if self._line is Line.START else self._bold[0], word[-2:] == "**")
        if self._line is Line.START:
            yield from self._begin_text(word)
        if not any(script(c) for c in word) and any(c.isalnum() for c in word):
            yield from self._scripts.take()
        if _SIMPLE.fullmatch(word) and self._markup.idle:
            self._queue.append(_Token(word, begin, end, space=space))
            yield from self._drain(Ahead("", False))
            return
        # A tag's attributes are not said, and its end must not go with their letters (a pronunciation in IPA, say).
        skipped, closing, said = word.partition(self._markup.awaited) if self._markup.awaited else ("", "", word)
        ready = skipped + closing + plain(self._scripts.without(said, begin + len(word) - len(said)))
        verbatim = self.foreign and any(script(c) for c in word)
        for text in [word] if verbatim else ready.split():
            for part in self._markup.clean(text) if not verbatim else []:
                self._queue.append(_Token(part.text, begin, end, part.code, True))
            if verbatim:
                self._queue.append(_Token(word, begin, end, verbatim=True))
        if self._queue:
            self._queue[-1].space = space
        yield from self._drain(Ahead("", False))

    def _structure(self, word: str) -> bool:
        """Marks that shape lines and are not said."""
        if self._fence:
            if self._line is Line.START and word.startswith(self._fence):
                self._fence = ""
            self._line = Line.BLOCK
            return True
        if self._line is Line.TEXT:
            return False
        if self._line is Line.TABLE:
            return bool(re.fullmatch(r"[-:=]+", word))
        if self._line is not Line.START:
            return bool(self._line is Line.BLOCK and not self._line_spoke and goes_on(word))
        if word.startswith(("```", "~~~")):
            self._fence = word[:3]
            self._line = Line.BLOCK
            return True
        if (line := opened(word)) is not None:
            self._block_before, self._line, self._before = True, line, Before()
            return True
        if re.fullmatch(r"\d{1,3}[.)]|\d\ufe0f?\u20e3|🔟", word):
            self._block_before, self._line, self._before = True, Line.BLOCK, Before()
        return False

    def _begin_text(self, word: str) -> Iterator[Spoken]:
        if self._block_before or (self._short and CAPITAL.match(word)):
            yield from self._pause("." if self._block_before else ",")
        self._line = Line.TEXT
        self._block_before = False

    def _end_line(self) -> Iterator[Spoken]:
        if self._line is Line.START:
            self._block_before = True
        elif self._line in (Line.BLOCK, Line.TABLE) or all(self._bold):
            # All of it bold is a heading, too.
            yield from self._pause(".")
            self._before = Before()
        self._markup.end_line()
        self._asides.end_line()
        self._short, self._line_at = self._at - self._line_at < WRAPPED, self._at
        self._line, self._line_spoke, self._cell = Line.START, False, False

    def _pause(self, mark: str) -> Iterator[Spoken]:
        """A mark after the last word, unless it has one."""
        if self._last.isalnum():
            self._last = mark
            yield Spoken(f"{mark} " if self._spaced else mark, *self._place)
            self._spaced = False
        self._before = Before()

    def _drain(self, ahead: Ahead) -> Iterator[Spoken]:
        while self._queue:
            token = self._queue[0]
            follows = Ahead(self._queue[1].text, True) if len(self._queue) > 1 else ahead
            verbatim = Reading(token.text, "") if token.verbatim else None
            reading = verbatim or read_word(token.text, self._before, follows, code=token.code)
            if reading is None:
                return
            text, trail, kind = reading.text if verbatim else speakable(reading.text), reading.trail, reading.kind
            self._queue.popleft()
            end = token.end
            second = self._queue.popleft() if reading.absorbs and self._queue else None
            if second is not None:
                end, token.space = second.end, second.space
                trail = last_mark(second.text)
            if text and not token.code and not verbatim:
                written = token.text + (second.text if second else "")
                lead, trail = self._asides.around(written, trail, kind, self._before, "" if self._cell else self._last)
                text = lead + text
            before = self._before.then(token.text, kind, trail in (".", "!", "?"))
            yield from self._say(text, trail, token, end)
            if text or kind is Kind.CURRENCY:
                self._before = before

    def _say(self, text: str, trail: str, token: _Token, end: int) -> Iterator[Spoken]:
        if self._line is Line.BLOCK and not self._line_spoke and self._block_before:
            yield from self._pause(".")
            self._block_before = False
        if self._line is Line.TABLE and not self._line_spoke:
            yield from self._pause(".")
        if self._cell:
            yield from self._pause(",")
            self._cell = False
        if not text and (not trail or not self._last or self._last in ".!?,;:"):
            return
        self._line_spoke = True
        lead = " " if self._owed and text else ""
        self._owed = False
        spoken = text + trail
        self._last = spoken[-1]
        structured = self._line is not Line.TEXT or self._ends_line
        after = " " if token.space and not structured else ""
        self._owed = structured and token.space
        self._spaced = bool(after)
        self._place = (token.begin, end)
        yield Spoken(lead + spoken + after, token.begin, end)
