"""Money, measures, dates, times and plain numbers: one word (and at times the next) to words."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.numbers import amount, cardinal, decade, digits, fraction, ordinal, year

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_SIGN = "|".join(re.escape(sign) for sign in sorted(lexicon.CURRENCIES, key=len, reverse=True))
_SCALE = r"(?:[kK]|[mM][mMnN]?|[bB][nN]?|[tT][nN]?)"
_MONEY = re.compile(rf"([-+]?)({_SIGN})([-+]?)({_NUMBER})(?:[-–]\2?({_NUMBER}))?({_SCALE})?(\+?)(?:/(\w+))?")
_MONEY_AFTER = re.compile(rf"([-+]?)({_NUMBER})([€£¥₹₽₩¢$])")
_MEASURE = re.compile(
    rf"([-+]?(?:{_NUMBER}))(?:[-–]({_NUMBER}))?-?([a-zA-Zµ°ºΩ]+(?:\^[23])?)(?:/([a-zA-Z]+(?:\^[23])?))?"
)
_UNIT = re.compile(r"([a-zA-Zµ°ºΩ]+(?:\^[23])?)(?:/([a-zA-Z]+(?:\^[23])?))?")
_PERCENT = re.compile(rf"([-+~]?(?:{_NUMBER}))(?:%?[-–]({_NUMBER}))?%")
_PLAIN = re.compile(rf"([-+]?)({_NUMBER})")
_RANGE = re.compile(rf"({_NUMBER})[-–—]({_NUMBER})")
_TIME = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?\s?([aApP]\.?[mM]\.?)?")
_TIMES = re.compile(r"(\d{1,2}(?::\d\d)?)\s?([aApP]\.?[mM])?[-–](\d{1,2}(?::\d\d)?)\s?([aApP]\.?[mM])?")
_HOUR = re.compile(r"(1[0-2]|0?[1-9])([aApP]\.?[mM]\.?)")
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_SLASHED = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d\d)")
_MERIDIEM = ("am", "pm", "a.m", "p.m")


def read_quantity(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """A reading, None when it is no quantity, `"wait"` when what follows decides."""
    for rule in (_money, _percent, _date, _clock, _ordinal, _special):
        found = rule(core, trail, before, ahead)
        if found is not None:
            return found
    return _measure(core, trail, before) or _unit_after(core, trail, before) or _number(core, trail, before, ahead)


def _money(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    after = _MONEY_AFTER.fullmatch(core)
    match = _MONEY.fullmatch(f"{after[1]}{after[3]}{after[2]}" if after else core)
    if not match:
        return _coded(core, trail, before)
    sign, mark, inner, value, until, scale, more, per = match.groups()
    one, many, cent, cents = lexicon.CURRENCIES[mark]
    minus = {"-": "minus ", "+": "plus "}.get(sign or inner, "")
    tail = (" or more" if more else "") + (f" per {lexicon.PER.get(per, per)}" if per else "")
    if not scale and not trail and not per and not more:
        scaled = ahead.among(lexicon.SCALE_WORDS)
        if scaled is None:
            return "wait"
        if scaled:
            word = lexicon.SCALES.get(ahead.core.lower(), ahead.core.lower())
            span = f" to {amount(until)}" if until else ""
            return Reading(f"{minus}{amount(value)}{span} {word} {many}", trail, Kind.PLAIN, True)
    if scale or until:
        span = f" to {amount(until)}" if until else ""
        word = f" {lexicon.SCALES[scale.lower()]}" if scale else ""
        return Reading(f"{minus}{amount(value)}{span}{word} {many}{tail}", trail)
    whole, _, part = value.replace(",", "").partition(".")
    if len(part) in (1, 2) and cent and mark != "¥":
        small, units = int(part.ljust(2, "0")), int(whole or 0)
        said = [f"{cardinal(units)} {one if units == 1 else many}"] if units or not small else []
        said += [f"{cardinal(small)} {cent if small == 1 else cents}"] if small else []
        return Reading(minus + " and ".join(said) + tail, trail)
    return Reading(f"{minus}{amount(value)} {one if value == '1' else many}{tail}", trail)


def _coded(core: str, trail: str, before: Before) -> Reading | None:
    names = lexicon.CURRENCY_CODES.get(core.lower())
    if names and core.isupper() and before.kind is Kind.NUMBER:
        return Reading(names[0] if before.word == "1" else names[1], trail)
    match = re.fullmatch(rf"({_NUMBER})([A-Z]{{3}})|([A-Z]{{3}})({_NUMBER})", core)
    names = lexicon.CURRENCY_CODES.get((match[2] or match[3]).lower()) if match else None
    if match and names:
        value = match[1] or match[4]
        return Reading(f"{amount(value)} {names[0] if value == '1' else names[1]}", trail)
    return None


def _percent(core: str, trail: str, _: Before, __: Ahead) -> Reading | None:
    match = _PERCENT.fullmatch(core)
    if not match:
        return None
    about = "about " if match[1][0] == "~" else ""
    until = f" to {amount(match[2])}" if match[2] else ""
    return Reading(f"{about}{amount(match[1].lstrip('~'))}{until} percent", trail)


def _date(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    if match := _ISO.fullmatch(core):
        y, m, d = int(match[1]), int(match[2]), int(match[3])
        if 1 <= m <= 12 and 1 <= d <= 31:
            at = f", {_time_of(match[4])}" if match[4] else ""
            return Reading(f"{lexicon.MONTHS[m - 1]} {ordinal(d)}, {year(y)}{at}", trail)
    if match := _SLASHED.fullmatch(core):
        m, d, y = int(match[1]), int(match[3]), int(match[4])
        if match[2] == "." or m > 12:
            m, d = d, m
        if 1 <= m <= 12 and 1 <= d <= 31:
            y += 0 if len(match[4]) == 4 else (2000 if y < 50 else 1900)
            return Reading(f"{lexicon.MONTHS[m - 1]} {ordinal(d)}, {year(y)}", trail)
    match = re.fullmatch(r"(1[0-2]|0?[1-9])/(3[01]|[12]\d|0?[1-9])", core)
    if match and core != "9/11" and before.lower in ("on", "by", "until", "since", "before", "after"):
        return Reading(f"{lexicon.MONTHS[int(match[1]) - 1]} {ordinal(int(match[2]))}", trail, Kind.MONTH_DAY)
    if re.fullmatch(r"[12]?\d|3[01]", core) and int(core):
        if before.kind is Kind.MONTH:
            return Reading(ordinal(int(core)), trail, Kind.MONTH_DAY)
        if not trail and before.lower not in ("than", "chapter", "page"):
            month = ahead.among(lexicon.MONTH_NAMES) if ahead.first is None or ahead.first.isupper() else False
            if month is None:
                return "wait"
            if month:
                lead = "" if before.lower == "the" else "the "
                return Reading(f"{lead}{ordinal(int(core))} of", trail, Kind.NUMBER)
    match = re.fullmatch(r"([12]?\d|3[01])[-–]([12]?\d|3[01])", core)
    if match and before.kind is Kind.MONTH:
        return Reading(f"{ordinal(int(match[1]))} to {ordinal(int(match[2]))}", trail, Kind.MONTH_DAY)
    return None


def _meridiem(text: str) -> str:
    return f"{text[0].upper()} M"


def _time_of(text: str, exact: bool = False) -> str:
    hour, _, minute = text.partition(":")
    if not minute or minute == "00":
        return cardinal(int(hour)) + ("" if exact or not minute else " o'clock" if 0 < int(hour) <= 12 else " hundred")
    return f"{cardinal(int(hour))} {'oh ' if minute[0] == '0' else ''}{cardinal(int(minute))}"


def _clock(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    if match := _HOUR.fullmatch(core):
        return Reading(f"{cardinal(int(match[1]))} {_meridiem(match[2])}", trail, Kind.TIME)
    if match := _TIME.fullmatch(core):
        text, half = f"{match[1]}:{match[2]}", match[4]
        if match[3]:
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
    if core.lower() in (*_MERIDIEM, "am", "pm") and before.kind in (Kind.TIME, Kind.NUMBER):
        if "." in core and trail == "." and ahead.first is None:
            return "wait"
        return Reading(_meridiem(core), "" if "." in core and trail == "." and _goes_on(ahead) else trail)
    if match := re.fullmatch(r"(\d+):(\d+)", core):
        return Reading(f"{amount(match[1])} to {amount(match[2])}", trail)
    return None


def _goes_on(ahead: Ahead) -> bool:
    return bool(ahead.first) and not str(ahead.first).isupper()


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
    if match := re.fullmatch(rf"({_NUMBER})[xX×]", core):
        return Reading(f"{amount(match[1])} times", trail)
    if core in ("x", "X", "×", "*", "-", "–", "−") and before.kind is Kind.NUMBER:
        if ahead.first is None:
            return "wait"
        if ahead.first.isdigit():
            return Reading("minus" if core in "-–−" else "by" if core in "xX" else "times", trail)
    if match := re.fullmatch(rf"([~≈<>≤≥])=?({_NUMBER})", core):
        lead = {"~": "about", "≈": "about", "<": "less than", ">": "more than", "≤": "at most", "≥": "at least"}
        return Reading(f"{lead[match[1]]} {amount(match[2])}", trail, Kind.NUMBER)
    if match := re.fullmatch(rf"±({_NUMBER})(%?)", core):
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
