"""What shapes a line and is not said: bullets, headings, quotes, rules, rows of tables."""

from __future__ import annotations

import re
from enum import Enum, auto

from sled_tts.server.text.characters import plain

_DASHES = frozenset("-*_=")
_BOXES = ("[", "]", "[x]", "[X]", "[ ]", "*", "-", "_")

# A shorter line ended because its writer meant it to, if what follows begins like a line of its own.
WRAPPED = 50
CAPITAL = re.compile(r"[\"'“‘(\[*_]*[A-Z]")


class Line(Enum):
    """What the line has been recognised as."""

    START = auto()
    TEXT = auto()
    BLOCK = auto()
    TABLE = auto()


def opened(word: str) -> Line | None:
    """What a line becomes whose first word is a mark; None when the word is to be said."""
    if re.fullmatch(r"#{1,6}|[-*+•◦▪‣–]|>+", word):
        return Line.START if word[0] == ">" else Line.BLOCK
    if len(word) >= 3 and len(set(word)) == 1 and word[0] in _DASHES:
        return Line.START
    # Ticks, crosses and other pictures lead items as bullets do.
    return Line.BLOCK if _picture(word) else None


def goes_on(word: str) -> bool:
    """Whether a word before any that is said belongs to the mark: the box of a task, the rest of a rule."""
    return word in _BOXES or _picture(word)


def _picture(word: str) -> bool:
    return not word.isascii() and not any(c.isalnum() for c in word) and plain(word) in ("", "★")
