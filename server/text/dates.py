"""Dates and times of day to words."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.numbers import NUMBER, amount, cardinal, ordinal, year

_TIME = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?:([aApP]\.?[mM]\.?)|h)?")
_TIMES = re.compile(
    r"(\d{1,2}(?::\d\d)?)\s?([aApP](?:\.?[mM]|(?=[-–].*[aApP]$)))?[-–](\d{1,2}(?::\d\d)?)\s?([aApP](?:\.?[mM])?)?"
)
_MILITARY = re.compile(r"([01]\d|2[0-3])([0-5]\d)")
_HOUR = re.compile(r"(1[0-2]|0?[1-9])([aApP]\.?[mM]\.?)")
_ISO = re.compile(r"(\d{4})([-/])(\d\d)\2(\d\d)(?:T(\d\d:\d\d)(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_SLASHED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d\d)")
_AFTER_TIME = lexicon.ZONES | lexicon.DAYS.keys() | lexicon.MONTH_NAMES.keys()
_BESIDE = frozenset(
    lexicon.words(
        "from to through thru between and of starting ending is was for scheduled dated arriving departing next this"
    )
)
_BEFORE_DATE = frozenset(lexicon.words("on by until since before after due")) | lexicon.DAYS.keys()
_DAY_PARTS = r"(1[0-2]|0?[1-9])/(3[01]|[12]\d|0?[1-9])"
_EXPIRY = ("exp", "expires", "expiry", "expiration", "expiring", "thru")
_MERIDIEM = ("am", "pm", "a.m", "p.m")


def read_date(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """As `quantities.read_quantity`."""
    if match := _ISO.fullmatch(core):
        y, m, d = int(match[1]), int(match[3]), int(match[4])
        if 1 <= m <= 12 and 1 <= d <= 31:
            at = f", {_time_of(match[5])}" if match[5] else ""
            return Reading(f"{lexicon.MONTHS[m - 1]} {ordinal(d)}, {year(y)}{at}", trail)
    if match := _SLASHED.fullmatch(core):
        m, d, y = int(match[1]), int(match[3]), int(match[4])
        if (match[2] == "." and d <= 12) or m > 12:
            m, d = d, m
        if 1 <= m <= 12 and 1 <= d <= 31:
            y += 0 if len(match[4]) == 4 else (2000 if y < 50 else 1900)
            return Reading(f"{lexicon.MONTHS[m - 1]} {ordinal(d)}, {year(y)}", trail)
    if match := re.fullmatch(r"(1[0-2]|0?[1-9])/((?:19|20)\d\d)|((?:19|20)\d\d)-(0[1-9]|1[0-2])", core):
        nth, of = int(match[1] or match[4]), int(match[2] or match[3])
        # `2009-12` may be a span of years, `2026-11` may not.
        if match[1] or nth <= of % 100:
            return Reading(f"{lexicon.MONTHS[nth - 1]} {year(of)}", trail)
    if (match := re.fullmatch(r"((?:19|20)\d\d)/(\d\d)", core)) and int(match[2]) == (int(match[1]) + 1) % 100:
        return Reading(f"{year(int(match[1]))} {cardinal(int(match[2]))}", trail, Kind.NUMBER)
    if (span := re.fullmatch(rf"({_DAY_PARTS})[-–]({_DAY_PARTS})", core)) and (
        before.lower in _BEFORE_DATE or any(_day_only(re.fullmatch(_DAY_PARTS, part)) for part in span.groups()[::3])
    ):
        m, d, last_m, last_d = (int(span[at]) for at in (2, 3, 5, 6))
        said = (f"{lexicon.MONTHS[m - 1]} {ordinal(d)}", f"{lexicon.MONTHS[last_m - 1]} {ordinal(last_d)}")
        return Reading(" to ".join(said), trail, Kind.MONTH_DAY)
    match = re.fullmatch(_DAY_PARTS, core)
    if match and before.lower in _EXPIRY and int(match[2]) > 23:
        # On a card the second is a year, on a coupon a day.
        return Reading(f"{cardinal(int(match[1]))} {cardinal(int(match[2]))}", trail)
    dated = before.lower in _BEFORE_DATE or before.lower in _EXPIRY
    if match and before.starts and int(match[2]) > 20:
        # Of a sentence that begins with it: `11/23 at 3pm`, `11/23: dentist`.
        timed = ahead.among(("at", "@")) if not trail else trail in (",", ":")
        if timed is None:
            return "wait"
        dated = dated or timed
    # Nobody counts in these parts, but in sixteenths.
    dated = dated or (before.lower in _BESIDE and _day_only(match))
    earlier = re.fullmatch(r"(\d\d?)/(\d\d?)", before.earlier)
    dated = dated or (core[0] == "0" and bool(match)) or (before.lower in _BESIDE and _day_only(earlier))
    if match and core != "9/11" and dated:
        return Reading(f"{lexicon.MONTHS[int(match[1]) - 1]} {ordinal(int(match[2]))}", trail, Kind.MONTH_DAY)
    match = re.fullmatch(r"((?:19|20)\d\d)[-–]([A-Z][a-z]+)", core) if before.kind is Kind.MONTH_DAY else None
    if match and (name := lexicon.MONTH_NAMES.get(match[2].lower())):
        return Reading(f"{year(int(match[1]))} to {name}", "" if trail == "." else trail, Kind.MONTH)
    match = re.fullmatch(r"([12]?\d|3[01])-([A-Z][a-z]{2})", core) if before.kind is not Kind.MONTH else None
    if match and (name := lexicon.MONTH_NAMES.get(match[2].lower())):
        return Reading(f"the {ordinal(int(match[1]))} of {name}", "" if trail == "." else trail, Kind.MONTH_DAY)
    match = re.fullmatch(r"(0?[1-9]|[12]\d|3[01])-([A-Z][a-z]{2,8})-((?:19|20)?\d\d)", core)
    if match and (name := lexicon.MONTH_NAMES.get(match[2].lower())):
        of = int(match[3]) + (0 if len(match[3]) == 4 else 2000)
        return Reading(f"{name} {ordinal(int(match[1]))}, {year(of)}", trail)
    if (match := re.fullmatch(r"([0-2]?\d|3[01])(st|nd|rd|th)?", core)) and int(match[1]):
        if before.kind is Kind.MONTH:
            return Reading(ordinal(int(match[1])), trail, Kind.MONTH_DAY)
        if not trail and before.lower not in ("than", "chapter", "page"):
            month = ahead.among(lexicon.MONTH_NAMES) if ahead.first is None or ahead.first.isupper() else False
            if month is None:
                return "wait"
            if month:
                lead = "" if before.lower == "the" else "the "
                return Reading(f"{lead}{ordinal(int(match[1]))} of", trail, Kind.NUMBER)
    match = re.fullmatch(r"([12]?\d|3[01])(?:st|nd|rd|th)?[-–]([A-Z][a-z]+)", core)
    if match and before.kind is Kind.MONTH and (name := lexicon.MONTH_NAMES.get(match[2].lower())):
        return Reading(f"{ordinal(int(match[1]))} to {name}", "" if trail == "." else trail, Kind.MONTH)
    match = re.fullmatch(r"([12]?\d|3[01])[-–]([12]?\d|3[01])", core)
    if match and before.kind is Kind.MONTH:
        return Reading(f"{ordinal(int(match[1]))} to {ordinal(int(match[2]))}", trail, Kind.MONTH_DAY)
    return None


def _day_only(match: re.Match[str] | None) -> bool:
    return bool(match and int(match[2]) > 12 and match[2] != "16")


def _meridiem(text: str) -> str:
    return f"{text[0].upper()} M"


def _time_of(text: str, exact: bool = False) -> str:
    hour, _, minute = text.partition(":")
    if not minute or minute == "00":
        whole = " o'clock" if 0 < int(hour) <= 12 else " hundred"
        return cardinal(int(hour)) + ("" if not minute or (exact and whole[1] == "o") else whole)
    return f"{cardinal(int(hour))} {'oh ' if minute[0] == '0' else ''}{cardinal(int(minute))}"


def read_clock(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """As `quantities.read_quantity`."""
    if match := _HOUR.fullmatch(core):
        return Reading(f"{cardinal(int(match[1]))} {_meridiem(match[2])}", trail, Kind.TIME)
    if match := _TIME.fullmatch(core):
        text, half = f"{match[1]}:{match[2]}", match[4]
        if match[3] and not (match[3] == "00" and len(match[1]) == 2 and match[1] != "00"):
            return Reading(" ".join(cardinal(int(part)) for part in match.groups()[:3]), trail, Kind.TIME)
        if half:
            return Reading(f"{_time_of(text, True)} {_meridiem(half)}", trail, Kind.TIME)
        follows = ahead.among(_MERIDIEM) if not trail and match[2] == "00" else False
        return "wait" if follows is None else Reading(_time_of(text, follows), trail, Kind.TIME)
    if (match := _TIMES.fullmatch(core)) and (":" in core or match[2] or match[4]):
        halves = [f" {_meridiem(half)}" if half else "" for half in (match[2], match[4])]
        return Reading(
            f"{_time_of(match[1], True)}{halves[0]} to {_time_of(match[3], True)}{halves[1]}", trail, Kind.TIME
        )
    if match := re.fullmatch(r"(1[0-2]|[1-9])\.([0-5]\d)([aApP]\.?[mM])?", core):
        # With a point, as the British write it.
        follows = bool(match[3]) or (ahead.among(_MERIDIEM) if not trail else False)
        if follows is None:
            return "wait"
        if follows:
            half = f" {_meridiem(match[3])}" if match[3] else ""
            return Reading(f"{_time_of(f'{match[1]}:{match[2]}', True)}{half}", trail, Kind.TIME)
    if (match := _MILITARY.fullmatch(core)) and (core[0] == "0" or core[2:] == "00") and not trail:
        follows = ahead.among(("hours", "hrs"))
        if follows is None:
            return "wait"
        if follows:
            lead = "oh " if core[0] == "0" and core[1] != "0" else ""
            rest = "hundred" if match[2] == "00" else cardinal(int(match[2]))
            return Reading(f"{lead}{cardinal(int(match[1]))} {rest}", "", Kind.TIME)
    if core in ("hrs", "hr", "h") and before.kind is Kind.TIME:
        return Reading("hours", trail)
    if core.lower() in _MERIDIEM and before.kind in (Kind.TIME, Kind.NUMBER):
        goes_on = _goes_on(ahead) if "." in core and trail == "." else False
        return "wait" if goes_on is None else Reading(_meridiem(core), "" if goes_on else trail, Kind.TIME)
    if match := re.fullmatch(rf"({NUMBER}):({NUMBER})", core):
        return Reading(f"{amount(match[1])} to {amount(match[2])}", trail)
    return None


def _goes_on(ahead: Ahead) -> bool | None:
    """Whether the sentence goes on after `p.m.`: with no capital, or with the name of a zone, a day or a month."""
    if not ahead.first:
        return None if ahead.first is None else False
    if not ahead.first.isupper():
        return True
    name, slash, _ = ahead.word.partition("/")
    return Ahead(name, ahead.done or bool(slash)).among(_AFTER_TIME)
