"""Quantities of every kind: one word (and at times the next) to words. Measures and plain numbers are read here."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.dates import read_clock, read_date
from sled_tts.server.text.money import read_money
from sled_tts.server.text.numbers import NUMBER, amount, cardinal, decade, digits, fraction, ordinal, year

_MEASURE = re.compile(
    rf"([-+]?(?:{NUMBER}))(?:[-–]({NUMBER}))?-?([a-zA-Zµ°ºΩ]+(?:\^[23])?)(?:/([a-zA-Z]+(?:\^[23])?))?"
)
_UNIT = re.compile(r"([a-zA-Zµ°ºΩ]+(?:\^[23])?)(?:/([a-zA-Z]+(?:\^[23])?))?")
_PERCENT = re.compile(rf"([-+~]?(?:{NUMBER}))(?:%?[-–]({NUMBER}))?%")
_PLAIN = re.compile(rf"([-+]?)({NUMBER})")
_RANGE = re.compile(rf"({NUMBER})[-–—]({NUMBER})")


def read_quantity(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """A reading, None when it is no quantity, `"wait"` when what follows decides."""
    for rule in (read_money, _percent, read_date, read_clock, _ordinal, _special):
        found = rule(core, trail, before, ahead)
        if found is not None:
            return found
    return _measure(core, trail, before) or _unit_after(core, trail, before) or _number(core, trail, before, ahead)


def _percent(core: str, trail: str, _: Before, __: Ahead) -> Reading | None:
    match = _PERCENT.fullmatch(core)
    if not match:
        return None
    about = "about " if match[1][0] == "~" else ""
    until = f" to {amount(match[2])}" if match[2] else ""
    return Reading(f"{about}{amount(match[1].lstrip('~'))}{until} percent", trail)


def _ordinal(core: str, trail: str, before: Before, _: Ahead) -> Reading | None:
    if match := re.fullmatch(r"(\d[\d,]*)(st|nd|rd|th)", core, re.IGNORECASE):
        kind = Kind.MONTH_DAY if before.kind is Kind.MONTH else Kind.NUMBER
        return Reading(ordinal(int(match[1].replace(",", ""))), trail, kind)
    if (match := re.fullmatch(r"'?(\d{2}|[12]\d{3})'?s", core)) and int(match[1]) % 10 == 0 and int(match[1]) >= 20:
        return Reading(decade(int(match[1])), trail)
    return None


def _special(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    if core in ("24/7", "9/11"):
        return Reading(" ".join(cardinal(int(n)) for n in core.split("/")), trail)
    if match := re.fullmatch(r"(\d{1,3})/(\d{1,4})", core):
        spoken = fraction(int(match[1]), int(match[2]))
        if before.kind is Kind.NUMBER and before.word.isdigit() and int(match[1]) < int(match[2]):
            spoken = "and " + (f"a {spoken[4:]}" if spoken.startswith("one ") else spoken)
        return Reading(spoken, trail, Kind.NUMBER)
    if match := re.fullmatch(r"(\d)'(\d{1,2})\"?", core):
        return Reading(f"{cardinal(int(match[1]))} foot {cardinal(int(match[2]))}", trail)
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)(?:x(\d+))?|(\d+(?:\.\d+)?)×(\d+(?:\.\d+)?)", core):
        return Reading(" by ".join(amount(part) for part in match.groups() if part), trail)
    if match := re.fullmatch(rf"({NUMBER})[xX×]", core):
        return Reading(f"{amount(match[1])} times", trail)
    if core in ("x", "X", "×", "*", "-", "–", "−") and before.kind is Kind.NUMBER:
        if ahead.first is None:
            return "wait"
        if ahead.first.isdigit():
            return Reading("minus" if core in "-–−" else "by" if core in "xX" else "times", trail)
    if match := re.fullmatch(rf"([~≈<>≤≥])=?({NUMBER})", core):
        lead = {"~": "about", "≈": "about", "<": "less than", ">": "more than", "≤": "at most", "≥": "at least"}
        return Reading(f"{lead[match[1]]} {amount(match[2])}", trail, Kind.NUMBER)
    if match := re.fullmatch(rf"±({NUMBER})(%?)", core):
        return Reading(f"plus or minus {amount(match[1])}{' percent' if match[2] else ''}", trail, Kind.NUMBER)
    return None


def _measure(core: str, trail: str, before: Before) -> Reading | None:
    match = _MEASURE.fullmatch(core)
    if not match:
        return None
    value, until, unit, per = match.groups()
    if (spoken := _unit(unit, per, value == "1" and not until)) is not None:
        span = f" to {amount(until)}" if until else ""
        return Reading(f"{amount(value)}{span} {spoken}", trail)
    # `7B` and `221B` are names, so is `4K`; `10k` and `5M` are counts.
    counts = unit in ("k", "M", "bn", "mn", "tn") or (unit == "K" and len(value) > 1)
    if counts and not per:
        span = f" to {amount(until)}" if until else ""
        return Reading(f"{amount(value)}{span} {lexicon.SCALES[unit.lower()]}", trail, Kind.NUMBER)
    return None


def _unit(unit: str, per: str | None, single: bool) -> str | None:
    # `5K`, `3M`, `2B` count; `5 k` and capitals that name units are told apart by the table.
    if unit not in lexicon.UNITS or unit in ("K", "B", "M") or (per and per not in lexicon.PER):
        return None
    one, many = lexicon.UNITS[unit]
    return (one if single else many) + (f" per {lexicon.PER[per]}" if per else "")


def _unit_after(core: str, trail: str, before: Before) -> Reading | None:
    match = _UNIT.fullmatch(core)
    if not match or before.kind is not Kind.NUMBER:
        return None
    unit, per = match.groups()
    if not per and unit in lexicon.UNITS_JOINED:
        single = ("m", "g", "W", "V", "L", "h", "s")
        if unit not in single:
            return None
    spoken = _unit(unit, per, before.word == "1")
    if spoken is None:
        return None
    dotted = unit in ("min", "sec", "hr", "hrs", "ft", "lb", "lbs", "oz", "in", "mi") and trail == "."
    return Reading(spoken, trail if not dotted else ".")


def _number(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | None:
    if match := re.fullmatch(r"#(\d+)", core):
        return Reading(f"number {amount(match[1])}", trail, Kind.NUMBER)
    if match := _PLAIN.fullmatch(core):
        sign, value = match.groups()
        if not sign and re.fullmatch(r"\d{4}", value) and _is_year(int(value), before):
            return Reading(year(int(value)), trail, Kind.NUMBER)
        if "." in value and value[0] != "." and before.lower in lexicon.VERSIONED:
            return Reading(" point ".join(amount(part) for part in value.split(".")), trail, Kind.NUMBER)
        return Reading(amount(core), trail, Kind.NUMBER)
    if match := _RANGE.fullmatch(core):
        first, last = match.groups()
        if len(first) == 4 == len(last) and _is_year(int(first), before):
            return Reading(f"{year(int(first))} to {year(int(last))}", trail, Kind.NUMBER)
        if len(first) == 4 and len(last) == 2 and _is_year(int(first), before):
            return Reading(f"{year(int(first))} to {cardinal(int(last))}", trail, Kind.NUMBER)
        joint = " " if before.lower in lexicon.SCORED else " to "
        return Reading(f"{amount(first)}{joint}{amount(last)}", trail, Kind.NUMBER)
    return None


def _is_year(value: int, before: Before) -> bool:
    if 1900 <= value <= 2099 or before.kind in (Kind.MONTH, Kind.MONTH_DAY):
        return True
    return 1100 <= value < 1900 and before.lower in lexicon.YEAR_AFTER


def spell(text: str) -> str:
    """Letters and digits one by one."""
    return " ".join(digits(c) if c.isdigit() else c.upper() for c in text if c.isalnum())
