"""Abbreviations, acronyms, Roman numerals and identifiers."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.acronyms import pronounceable
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.labels import Label
from sled_tts.server.text.numbers import amount, cardinal, ordinal, paired, roman, year
from sled_tts.server.text.quantities import spell

_CAPITALS = re.compile(r"([A-Z]{1,6})('?s)?")
_DOTTED = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]|(?:[A-Z][a-z]?\.)+[A-Z][a-z]?")
_HEIGHTS = ("saint", "the", "mt", "mount", "ft", "fort", "port", "lake")
_WITH_NUMBER = re.compile(r"([A-Z]{1,5}|[A-Z][a-z]+)-?(\d+(?:\.\d+)?)([a-zA-Z]?)")


def read_short(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """Abbreviations with their stop; `"wait"` when what follows decides whether it also ends the sentence."""
    lower = core.lower()
    stop = trail[:1] == "."
    if core.isupper() and lower in lexicon.ZONES:
        return None
    if core == "v" and trail == "." and before.word[:1].isupper() and not before.starts:
        return Reading("versus", "")
    bare = lexicon.BARE_SHORT.get(core) or lexicon.BARE_SHORT.get(lower)
    if bare and not (stop and (lower in lexicon.SHORT or lower in lexicon.TITLES)):
        return Reading(bare, trail)
    if (month := _month(core, lower, trail, before, ahead)) is not None:
        return month
    if not stop:
        if core == "Ms" and before.kind is not Kind.NUMBER:
            return Reading("Miz", trail)
        if core in ("Dr", "Prof") and not trail and before.kind is not Kind.NUMBER:
            if ahead.first is None:
                return "wait"
            return Reading(lexicon.TITLES[lower], "") if ahead.first.isupper() else None
        if core == "St" and not trail and (ahead.first is None or ahead.first.isupper()):
            return Reading("Saint", "") if ahead.first else "wait"
        return None
    lowest = lower in ("max", "min") and before.kind is not Kind.NUMBER and (core.islower() or not before.word)
    counted = lowest if lower in ("max", "min") else lower != "c" or core == "c"
    if lower in lexicon.COUNTED and trail == "." and counted:
        if ahead.first is None:
            return "wait"
        roman_next = re.fullmatch("[IVXL]+", ahead.core) if lower in ("vol", "ch", "fig") else None
        if roman_next and not ahead.done:
            return "wait"
        announced = lower == "no" and before.label is not Label.NONE
        if ahead.first.isdigit() or ahead.first == "#" or roman_next or announced:
            return Reading(lexicon.COUNTED[lower], "")
    if lower == "st":
        street = before.word[:1].isupper() and not before.starts and before.lower not in _HEIGHTS
        street = street or bool(re.fullmatch(r"\d+(st|nd|rd|th)", before.word))
        return _ending("street", trail, ahead) if street else Reading("Saint", trail[1:])
    if lower in ("dr", "ft") and before.word[:1].isupper() and before.earlier[:1].isdigit():
        return _ending("drive" if lower == "dr" else "fort", trail, ahead)
    if lower in lexicon.TITLES and core[0].isupper():
        return Reading(lexicon.TITLES[lower], trail[1:])
    if lowest:
        return _ending("maximum" if lower == "max" else "minimum", trail, ahead)
    if lower in ("a.m", "p.m") and before.kind in (Kind.TIME, Kind.NUMBER):
        return None
    if lower == "c" and re.fullmatch(r"\d+(st|nd|rd|th)", before.word):
        return _ending("century", trail, ahead)
    if lower == "est" and before.kind is Kind.NUMBER:
        return _ending("estimated", trail, ahead)
    if lower in lexicon.SHORT and (lower not in ("min", "max", "al", "co", "ca", "est") or not _is_word(core, before)):
        if lower in lexicon.NEVER_ENDS:
            return Reading(lexicon.SHORT[lower], trail[1:])
        company = lower in ("inc", "corp", "ltd", "co", "jr", "sr", "ave", "blvd", "rd", "ln")
        return (_named_on if company else _ending)(lexicon.SHORT[lower], trail, ahead)
    if _DOTTED.fullmatch(core):
        return _named_on(spell(core), trail, ahead)
    if core in lexicon.WINDS and before.word[-1:] == "°":
        return None
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
    return "wait" if ahead.ends is None else Reading(spoken, "." if ahead.ends else "")


def _named_on(spoken: str, trail: str, ahead: Ahead) -> Reading | str:
    """As `_ending` for what names often go on after: `the U.S. Senate`, `Acme Inc. President`."""
    if trail != "." or not ahead.first or not ahead.first.isupper():
        return _ending(spoken, trail, ahead)
    starts = ahead.among(lexicon.STARTERS)
    return "wait" if starts is None else Reading(spoken, "." if starts else "")


def _month(core: str, lower: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    stop = trail[:1] == "."
    if lower in lexicon.WEEKDAYS and core[0].isupper() and not (core.isupper() and core not in ("MON", "FRI", "TUE")):
        full = lexicon.WEEKDAYS[lower]
        if lower in ("sat", "sun"):
            clear = (stop and before.lower not in ("the", "our", "a")) or (trail[:1] == ":" and before.starts)
        else:
            clear = stop or trail[:1] in (",", ":") or lower not in lexicon.WEEKDAY_AMBIGUOUS
        clear = clear or (not trail and before.lower in lexicon.DAYS)
        if lower in ("sat", "sun") and trail == ",":
            dated = True if str(ahead.first).isdigit() else ahead.among(lexicon.MONTH_NAMES)
            if dated is None:
                return "wait"
            clear = clear or dated
        if not clear and not trail and ahead.first is None:
            return "wait"
        if clear or (not trail and ahead.first == "&") or (not trail and ahead.first and ahead.first.isdigit()):
            return _ending(full, trail, ahead) if stop else Reading(full, trail)
        return None
    if lower not in lexicon.MONTH_NAMES or not core[0].isupper():
        return None
    full = lexicon.MONTH_NAMES[lower]
    rest = trail[1:] if trail[:1] == "." and lower in lexicon.MONTH_SHORT and lower != "may" else trail
    loud = core.isupper() and lower in lexicon.MONTH_SHORT
    if (lower in lexicon.MONTH_AMBIGUOUS or loud) and before.kind is not Kind.NUMBER:
        if trail not in ("", "."):
            return None
        if ahead.first is None:
            return "wait"
        return Reading(full, rest, Kind.MONTH) if ahead.first.isdigit() else None
    if rest != trail and trail == ".":
        if ahead.ends is None:
            return "wait"
        rest = "." if ahead.ends else ""
    return Reading(full, rest, Kind.MONTH)


def read_letters(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | None:
    """Capitals and what is spelled out."""
    if (part := re.fullmatch(r"([IVX]+)\(([a-z])\)?", core)) and (value := _roman(part[1], before)) is not None:
        return Reading(f"{value} {part[2].upper()}", trail)
    if degrees := re.fullmatch(r"((?:[A-Z][a-z]?\.){2,})s", core):
        return Reading(f"{spell(degrees[1])}'s", trail)
    if core.isupper() and (value := _roman(core, before)) is not None:
        return Reading(value, trail)
    if _DOTTED.fullmatch(core):
        return Reading(lexicon.SHORT.get(core.lower()) or spell(core), trail)
    if match := re.fullmatch(r"([A-Z][a-z]{2,8})\.?[-–]([A-Z][a-z]{2,8})", core):
        for names in (lexicon.DAYS, lexicon.MONTH_NAMES):
            if (first := names.get(match[1].lower())) and (last := names.get(match[2].lower())):
                kind = Kind.PLAIN if names is lexicon.DAYS else Kind.MONTH
                return Reading(f"{first} to {last}", trail, kind)
    if match := re.fullmatch(r"([A-GO]|AB)(#|[-+])", core):
        return Reading(f"{' '.join(match[1])} { {'#': 'sharp', '-': 'minus', '+': 'plus'}[match[2]] }", trail)
    if (mixed := _mixed(core, before)) is not None:
        return Reading(mixed, trail)
    if match := _CAPITALS.fullmatch(core):
        return Reading(_capitals(match[1], match[2] or "", before), trail)
    if match := _WITH_NUMBER.fullmatch(core):
        word, number, tail = match.groups()
        name = _capitals(word, "", before) if word.isupper() else word
        if "-" in core and re.fullmatch(r"[1-9]\d\d", number) and (word in lexicon.STATES or word in ("I", "US", "SR")):
            return Reading(f"{name} {paired(int(number))}", trail)
        said = year(int(number)) if re.fullmatch(r"(?:19|20)\d\d", number) else amount(number)
        return Reading(f"{name} {said}{f' {tail.upper()}' if tail else ''}", trail)
    if match := re.fullmatch(r"([A-Z]\d[A-Z]|[A-Z]\d[A-Z]\d|\d[A-Z]{1,2}|[a-z]\d+)", core):
        parts = re.findall(r"\d+|[A-Za-z]", core)
        return Reading(" ".join(amount(p) if p.isdigit() else p.upper() for p in parts), trail)
    if re.fullmatch(r"[A-Z]{7,}", core):
        return Reading(core.capitalize(), trail)
    return None


def _mixed(core: str, before: Before) -> str | None:
    """`ChatGPT`, `OpenAI`, `iOS`, `mRNA`: a word and an acronym; `PhD`, `IoT`: letters."""
    if not core.isalpha() or core[1:].islower() or core.isupper():
        return None
    if core.upper() in lexicon.SAID:
        return lexicon.SAID[core.upper()]
    if core.removesuffix("s").upper() in lexicon.LETTERED:
        return spell(core.removesuffix("s")) + ("'s" if core[-1] == "s" else "")
    match = re.fullmatch(r"([A-Z]?[a-z]+(?:[A-Z][a-z]+)*)([A-Z]{2,5})(s?)", core)
    if not match:
        return None
    lead = match[1].upper() if len(match[1]) == 1 else match[1]
    return f"{lead} {_capitals(match[2], match[3], before)}"


def _capitals(word: str, plural: str, before: Before) -> str:
    if word in lexicon.SAID:
        return lexicon.SAID[word] + plural
    if len(word) == 1:
        return word + plural
    loud = before.word.isupper() and len(before.word) > 2 and before.word not in lexicon.LETTERED
    loud = loud and pronounceable(before.word)
    if word in lexicon.SHOUTED or (loud and word.lower() in ("it", "us", "who", "am", "pin")):
        return word.lower() + plural
    if loud and len(word) == 3 < len(before.word) and word not in lexicon.LETTERED and re.search(r"[AEIOUY]", word):
        return word.capitalize() + plural
    read = bool(re.search(r"[AEIOUY]", word[:4])) and (loud or pronounceable(word))
    if word in lexicon.LETTERED or not read or len(word) <= 3:
        return spell(word) + ("'s" if plural else "")
    return word.capitalize() + plural


def _roman(core: str, before: Before) -> str | None:
    value = roman(core)
    if value is None:
        return None
    if before.word[:1].isupper() and before.lower in lexicon.ROMAN_AFTER and core not in ("C", "D", "L", "M"):
        return cardinal(value)
    if before.word[:1].isupper() and before.lower in lexicon.REGNAL and core != "I":
        return f"the {ordinal(value)}"
    # A title of its own: `Final Fantasy VII`.
    title = before.word[:1].isupper() and before.word.upper() not in lexicon.SHOUTED and len(before.word) > 1
    if title and re.fullmatch(r"(?=.*[IV])[IVX]{2,}", core):
        return cardinal(value)
    return cardinal(value) if re.fullmatch(r"(?=.*[IV])[IVX]{3,}", core) else None


def identifier(text: str) -> str:
    """`snake_case`, `camelCase`, `kebab-case` and dotted names as words."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    text = re.sub(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", text)
    words = text.replace("_", " ").split()
    return " ".join(amount(word) if word.isdigit() else _loud(word) for word in words)


def _loud(word: str) -> str:
    """Part of a name in code: capitals that are no acronym are a matter of style."""
    if len(word) < 2 or not word.isupper() or not word.isalpha():
        return word
    if word in lexicon.SAID or word in lexicon.LETTERED or not re.search(r"[AEIOUY]", word):
        return _capitals(word, "", Before())
    return word.lower()
