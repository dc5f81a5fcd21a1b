"""Abbreviations, acronyms, Roman numerals and identifiers."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.numbers import amount, cardinal, ordinal, roman
from sled_tts.server.text.quantities import spell

_CAPITALS = re.compile(r"([A-Z]{1,6})('?s)?")
_DOTTED = re.compile(r"(?:[A-Za-z]\.){1,}[A-Za-z]")
_WITH_NUMBER = re.compile(r"([A-Z]{1,5}|[A-Z][a-z]+)-?(\d+(?:\.\d+)?)([a-zA-Z]?)")


def read_short(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """Abbreviations with their stop; `"wait"` when what follows decides whether it also ends the sentence."""
    lower = core.lower()
    stop = trail[:1] == "."
    if lower in lexicon.BARE_SHORT and not stop:
        return Reading(lexicon.BARE_SHORT[lower], trail)
    if (month := _month(core, lower, trail, before, ahead)) is not None:
        return month
    if not stop:
        return None
    if lower in lexicon.COUNTED and trail == ".":
        if ahead.first is None:
            return "wait"
        if ahead.first.isdigit():
            return Reading(lexicon.COUNTED[lower], "")
    if lower == "st":
        street = before.word[:1].isupper() and not before.starts and before.lower not in ("saint", "the")
        return _ending("street", trail, ahead) if street else Reading("Saint", trail[1:])
    if lower in ("dr", "ft") and before.word[:1].isupper() and before.earlier[:1].isdigit():
        return _ending("drive" if lower == "dr" else "fort", trail, ahead)
    if lower in lexicon.TITLES and core[0].isupper():
        return Reading(lexicon.TITLES[lower], trail[1:])
    if lower in lexicon.SHORT and (lower not in ("min", "max", "al", "co", "ca", "est") or not _is_word(core, before)):
        if lower in lexicon.NEVER_ENDS:
            return Reading(lexicon.SHORT[lower], trail[1:])
        return _ending(lexicon.SHORT[lower], trail, ahead)
    if _DOTTED.fullmatch(core):
        return _ending(spell(core), trail, ahead)
    if len(core) == 1 and core.isupper() and core != "I" and trail == ".":
        return _ending(core, trail, ahead) if not ahead.first or not ahead.first.isupper() else Reading(core, "")
    return None


def _is_word(core: str, before: Before) -> bool:
    return (
        core.lower() in ("al", "max", "co", "ca")
        and before.lower != "et"
        and not (core == "Co" and before.word[:1].isupper())
    )


def _ending(spoken: str, trail: str, ahead: Ahead) -> Reading | str:
    if trail != ".":
        return Reading(spoken, trail[1:])
    if ahead.first is None:
        return "wait"
    return Reading(spoken, "." if not ahead.first or ahead.first.isupper() else "")


def _month(core: str, lower: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    stop = trail[:1] == "."
    if lower in lexicon.WEEKDAYS and core[0].isupper() and trail[:1] in (".", ","):
        full = lexicon.WEEKDAYS[lower]
        return _ending(full, trail, ahead) if stop else Reading(full, trail)
    if lower not in lexicon.MONTH_NAMES or not core[0].isupper():
        return None
    full = lexicon.MONTH_NAMES[lower]
    rest = trail[1:] if trail[:1] == "." and lower in lexicon.MONTH_SHORT and lower != "may" else trail
    if lower in lexicon.MONTH_AMBIGUOUS and before.kind is not Kind.NUMBER:
        if trail not in ("", "."):
            return None
        if ahead.first is None:
            return "wait"
        return Reading(full, rest, Kind.MONTH) if ahead.first.isdigit() else None
    if rest != trail and trail == ".":
        if ahead.first is None:
            return "wait"
        rest = "" if ahead.first and not ahead.first.isupper() else "."
    return Reading(full, rest, Kind.MONTH)


def read_letters(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | None:
    """Capitals and what is spelled out."""
    if core.isupper() and (value := _roman(core, before)) is not None:
        return Reading(value, trail)
    if _DOTTED.fullmatch(core):
        return Reading(lexicon.SHORT.get(core.lower()) or spell(core), trail)
    if match := re.fullmatch(r"([A-Za-z]{3,5})\.?[-–]([A-Za-z]{3,5})", core):
        days = [lexicon.WEEKDAYS.get(day.lower()) for day in match.groups()]
        if all(days):
            return Reading(" to ".join(str(day) for day in days), trail)
    if match := re.fullmatch(r"([A-G])(#|[-+])", core):
        return Reading(f"{match[1]} { {'#': 'sharp', '-': 'minus', '+': 'plus'}[match[2]] }", trail)
    if core == "PhD":
        return Reading("P H D", trail)
    if match := _CAPITALS.fullmatch(core):
        return Reading(_capitals(match[1], match[2] or "", before), trail)
    if match := _WITH_NUMBER.fullmatch(core):
        word, number, tail = match.groups()
        kind = _capitals(word, "", before) if word.isupper() else word
        return Reading(f"{kind} {amount(number)}{f' {tail.upper()}' if tail else ''}", trail)
    if match := re.fullmatch(r"([A-Z]\d[A-Z]|[A-Z]\d[A-Z]\d|\d[A-Z]{1,2}|[a-z]\d+)", core):
        parts = re.findall(r"\d+|[A-Za-z]", core)
        return Reading(" ".join(amount(p) if p.isdigit() else p.upper() for p in parts), trail)
    if re.fullmatch(r"[A-Z]{7,}", core):
        return Reading(core.capitalize(), trail)
    return None


def _capitals(word: str, plural: str, before: Before) -> str:
    if word in lexicon.SAID:
        return lexicon.SAID[word] + plural
    if len(word) == 1:
        return word + plural
    loud = before.word.isupper() and len(before.word) > 2 and before.word not in lexicon.LETTERED
    if word in lexicon.SHOUTED or (loud and word.lower() in ("it", "us", "who", "am", "pin")):
        return word.lower() + plural
    vowels = bool(re.search(r"[AEIOUY]", word[:4]))
    if word in lexicon.LETTERED or not vowels or len(word) <= 3:
        return spell(word) + ("'s" if plural else "")
    return word.capitalize() + plural


def _roman(core: str, before: Before) -> str | None:
    value = roman(core)
    if value is None:
        return None
    if before.word[:1].isupper() and before.lower in lexicon.ROMAN_AFTER:
        return cardinal(value)
    if before.word[:1].isupper() and before.lower in lexicon.REGNAL and core != "I":
        return f"the {ordinal(value)}"
    return None


def identifier(text: str) -> str:
    """`snake_case`, `camelCase`, `kebab-case` and dotted names as words."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    text = re.sub(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", text)
    words = text.replace("_", " ").split()
    return " ".join(amount(word) if word.isdigit() else word for word in words)
