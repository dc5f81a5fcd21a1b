"""Sizes in feet and inches written with marks that may as well be quotes."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.context import INCHES, Ahead, Before, Kind, Reading, punctuation
from sled_tts.server.text.numbers import amount
from sled_tts.server.text.quantities import read_quantity

_SIZED = lexicon.SIZED | {"x", "by", "×"}
# What never has a size put before it: `2" of snow`.
_NO_NAMES = _SIZED | {"of", "and", "or", "to", "is", "was", "are", "were", "in", "at", "on", "from", "with", "per"}


def read_sized(word: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """`12"`, `5' 4"`, `10' x 12'`: a mark that does not close a quotation."""
    if (match := INCHES.fullmatch(word)) and not before.quoted:
        number, trail = match[1], punctuation(match[2].replace(")", ""))
        if not trail and ahead.first is None:
            return "wait"
        unnamed = ahead.among(_NO_NAMES) if not match[2] and str(ahead.first).isalpha() else True
        if unnamed is None:
            return "wait"
        follows = not unnamed
        attached = "/" in number or number == "1" or (follows and before.kind is not Kind.NUMBER)
        said = read_quantity(number, "", before, Ahead("", True))
        return Reading(
            f"{said.text if isinstance(said, Reading) else number} inch{'' if attached else 'es'}", trail, Kind.NUMBER
        )
    if match := re.fullmatch(r"(\d+)'([.,;:!?)]*)", word):
        if before.lower in ("x", "by", "×") and before.earlier.isdigit():
            return Reading(f"{amount(match[1])} feet", punctuation(match[2]))
        if match[2]:
            return None
        inches = re.match(r"\d+([\"″”])?", ahead.word)
        if inches and not inches[1] and inches.end() == len(ahead.word) and not ahead.done:
            return "wait"
        if inches and inches[1]:
            return Reading(f"{amount(match[1])} foot", "", Kind.NUMBER)
        sized = ahead.among(_SIZED) if not inches else False
        return "wait" if sized is None else Reading(f"{amount(match[1])} feet", "", Kind.NUMBER) if sized else None
    return None
