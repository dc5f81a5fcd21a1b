"""What a word's reading may depend on: what was said before it, and as much as is needed of what comes."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from sled_tts.server.text.labels import Label, labelled

# A number with a mark that is inches unless it closes a quotation.
INCHES = re.compile(r"\(?(\d+(?:\.\d+)?(?:[-–x×]\d+(?:\.\d+)?)?|\d+/\d+)\"([.,;:!?)]*)")
_EDGES = "\"'()[]{}*_`,.;:!?"


class Kind(Enum):
    """What the previous word was."""

    PLAIN = auto()
    NUMBER = auto()
    MONTH = auto()
    MONTH_DAY = auto()
    TIME = auto()
    PHONE = auto()
    MONEY = auto()
    CURRENCY = auto()
    CODE = auto()
    MEASURE = auto()
    SCORE = auto()


@dataclass(frozen=True)
class Reading:
    """How a word is said. `trail` is the punctuation after it; `absorbs` that it says the next word as well."""

    text: str
    trail: str
    kind: Kind = Kind.PLAIN
    absorbs: bool = False


@dataclass(frozen=True)
class Before:
    """The word before (`word`, as written) and the one before that; whether a sentence begins here.

    `quoted`: whether a quotation is open, so that `12"` closes it. `comma`: whether a comma came after the word.
    `label`: what sort of number the last words announce.
    """

    word: str = ""
    earlier: str = ""
    kind: Kind = Kind.PLAIN
    starts: bool = True
    quoted: bool = False
    comma: bool = False
    label: Label = Label.NONE

    @property
    def lower(self) -> str:
        return self.word.lower()

    def then(self, word: str, kind: Kind, ends: bool) -> Before:
        """What is before the next word, once `word` has been said."""
        quoted = self.quoted
        if '"' in word and word.count('"') % 2 and (quoted or not INCHES.fullmatch(word)):
            quoted = not quoted
        bare = word.strip("\"'()[]{}.,;:!?")
        label = Label.NONE if ends else labelled(bare, self.label, kind is Kind.CODE)
        return Before(bare, self.word, kind, ends, quoted, word[-1:] == ",", label)


@dataclass(frozen=True)
class Ahead:
    """The next word as far as it has come; `done` when it is complete, or when there is none."""

    word: str = ""
    done: bool = False

    @property
    def core(self) -> str:
        return self.word.strip(_EDGES)

    @property
    def first(self) -> str | None:
        """Its first letter or digit, `""` when there is none, None when that is not known yet."""
        return self.core[:1] or ("" if self.done else None)

    @property
    def ends(self) -> bool | None:
        """Whether a stop before it ends the sentence, as one does before a capital or nothing; None when that is not
        known yet."""
        return None if self.first is None else not self.first or self.first.isupper()

    def among(self, words: Collection[str]) -> bool | None:
        """Whether it is one of `words` (lower case); None when that is not known yet."""
        core = self.core.lower()
        if self.done:
            return core in words
        return None if any(word.startswith(core) for word in words) else False


def punctuation(trail: str) -> str:
    """What the voice knows of it: one mark, the strongest."""
    if "..." in trail:
        trail = trail.replace("...", ".")
    trail = re.sub(r"\.(?=[,;:])", "", trail)
    for marks in ("?", "!", ".", ";", ":", ","):
        if marks in trail:
            return marks
    return ""


def last_mark(word: str) -> str:
    """The punctuation at the end of a word as it is written."""
    match = re.search(r"[.,!?;:]", word[len(word.rstrip(".,!?;:\"')]}")) :])
    return match[0] if match else ""
