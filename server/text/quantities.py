"""Quantities of every kind: one word (and at times the next) to words. Measures and plain numbers are read here."""

from __future__ import annotations

import re
from dataclasses import replace

from sled_tts.server.text import lexicon, measures
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.dates import read_clock, read_date
from sled_tts.server.text.money import read_money
from sled_tts.server.text.numbers import NUMBER, amount, cardinal, decade, digits, ordinal, paired, year
from sled_tts.server.text.shapes import read_shape
from sled_tts.server.text.spans import read_span

_MEASURE = re.compile(
    rf"([-+]?(?:{NUMBER}))(?:[-–]({NUMBER}))?(-?)([a-zA-Zµ°ºΩ]+(?:\^[23])?)(?:/([a-zA-Z]+(?:\^[23])?))?"
)
_BETWEEN = {"x": "by", "X": "by", "/": "over"}
_CLOCK = ("hour", "minute", "second")
_UNIT = re.compile(r"([a-zA-Zµ°ºΩ]+(?:\^[23])?)(?:/([a-zA-Z]+(?:\^[23])?))?")
_PERCENT = re.compile(rf"([-+~]?(?:{NUMBER}))(?:%?[-–]({NUMBER}))?([%‰])(?:/([a-z]+))?")
_PLAIN = re.compile(rf"([-+]?)({NUMBER})")
_RANGE = re.compile(rf"(-?(?:{NUMBER}))[-–—~]({NUMBER})")
_MORE = re.compile(rf"({NUMBER})(k|K|M|B|bn|mn)?\+")


def read_quantity(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """A reading, None when it is no quantity, `"wait"` when what follows decides."""
    core = f"-{core[1:]}" if re.match(r"–[\d.]", core) else core
    for rule in (read_money, _percent, read_date, read_clock, _ordinal, read_shape, _special):
        found = rule(core, trail, before, ahead)
        if found is not None:
            return found
    if (measure := _measure(core, before, ahead) or _unit_after(core, trail, before, ahead)) is not None:
        return _stopped(measure, core, trail, ahead)
    return _number(core, trail, before, ahead)


def _percent(core: str, trail: str, _: Before, __: Ahead) -> Reading | None:
    match = _PERCENT.fullmatch(core)
    if not match:
        return None
    about = "about " if match[1][0] == "~" else ""
    until = f" to {amount(match[2])}" if match[2] else ""
    per = f" per {measures.PER.get(match[4], match[4])}" if match[4] else ""
    part = "percent" if match[3] == "%" else "per mille"
    return Reading(f"{about}{amount(match[1].lstrip('~'))}{until} {part}{per}", trail)


def _ordinal(core: str, trail: str, before: Before, _: Ahead) -> Reading | None:
    if match := re.fullmatch(r"(\d[\d,]*)(st|nd|rd|th)", core, re.IGNORECASE):
        kind = Kind.MONTH_DAY if before.kind is Kind.MONTH else Kind.NUMBER
        return Reading(ordinal(int(match[1].replace(",", ""))), trail, kind)
    if match := re.fullmatch(r"(\d+)(?:st|nd|rd|th)[-–](\d+)(?:st|nd|rd|th)", core):
        return Reading(f"{ordinal(int(match[1]))} to {ordinal(int(match[2]))}", trail, Kind.MONTH_DAY)
    if (match := re.fullmatch(r"'?(\d{2}|[12]\d{3})'?s", core)) and int(match[1]) % 10 == 0 and int(match[1]) >= 20:
        return Reading(decade(int(match[1])), trail)
    return None


def _special(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    if match := _MORE.fullmatch(core):
        scale = f" {measures.SCALES[match[2].lower()]}" if match[2] else ""
        number = _number(match[1], "", before, ahead)
        return Reading(f"{number.text if number else match[1]}{scale} plus", trail, Kind.NUMBER)
    if match := re.fullmatch(rf"({NUMBER})[-–]({NUMBER})[xX×]", core):
        return Reading(f"{amount(match[1])} to {amount(match[2])} times", trail)
    if match := re.fullmatch(rf"({NUMBER})[xX×]", core):
        if not trail and ahead.first is None:
            return "wait"
        if before.word in ("+", "-", "=", "minus") or (not trail and re.match(r"[-+=*/^<>≤≥≠≈]", ahead.core)):
            return Reading(f"{amount(match[1])} x", trail)
        return Reading(f"{amount(match[1])} times", trail)
    if core in ("-", "–"):
        return read_span(before, ahead)
    if core in ("x", "×") and before.word.isdecimal() and ahead.first is not None and ahead.first.isupper():
        # So many of a thing, as on a receipt: `2 x Large Pizza`.
        if not ahead.done and len(ahead.core) < 2:
            return "wait"
        if re.match("[A-Z][a-z]", ahead.core):
            return Reading("", "")
    sized = before.lower in lexicon.SIZED and core in ("x", "×")
    if core in ("x", "X", "×", "*", "·", "/") and (
        sized or before.kind is Kind.NUMBER or (before.kind is Kind.MEASURE and core != "/")
    ):
        if ahead.first is None:
            return "wait"
        if core in "xX" and "10".startswith(ahead.core) and not ahead.done:
            return "wait"
        if core in "xX" and re.match(r"10[\^⁰-⁹⁻¹²³]", ahead.core):
            return Reading("times", trail)
        if ahead.first.isdigit() or (core in "xX×*·" and ahead.first in measures.CURRENCIES):
            return Reading(_BETWEEN.get(core, "times") if ahead.first.isdigit() else "times", trail)
    return None


def _measure(core: str, before: Before, ahead: Ahead) -> Reading | str | None:
    if match := re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?", core):
        given = [(value, name) for value, name in zip(match.groups(), _CLOCK, strict=True) if value]
        if len(given) > 1 or (match[2] and core[-1] == "m" and re.fullmatch(r"\d+(h|hrs?)|hrs?|h", before.word)):
            return Reading(" ".join(f"{amount(n)} {name if n == '1' else name + 's'}" for n, name in given), "")
        if match[2] and core[-1] == "m" and ahead.first and re.fullmatch(r"\d{0,2}s?", ahead.core):
            if not ahead.done:
                return "wait"
            if ahead.core[-1] == "s":
                return Reading(f"{amount(match[2])} minute{'' if match[2] == '1' else 's'}", "")
        if match[2] and core[-1] == "m" and ahead.first is None:
            return "wait"
    match = _MEASURE.fullmatch(core)
    if not match:
        return None
    value, until, hyphen, unit, per = match.groups()
    if before.lower in lexicon.LABELLED and re.fullmatch("[A-Z]", unit):
        return None
    # `72F`, `22C`, but not `5C` nor `2F`.
    if unit in ("F", "C") and not re.fullmatch(r"-\d+|\d\d" if unit == "C" else r"-\d+|\d{2,3}", until or value):
        return None
    if (spoken := _unit(unit, per, (value == "1" and not until) or bool(hyphen))) is not None:
        span = f" to {amount(until)}" if until else ""
        return Reading(f"{amount(value)}{span} {spoken}", "", Kind.MEASURE)
    # `7B` and `221B` are names, so is `4K`; `10k` and `5M` are counts.
    counts = unit in ("k", "M", "bn", "mn", "tn") or (unit == "K" and 1 < len(value) < 4)
    if counts and not per:
        span = f" to {amount(until)}" if until else ""
        return Reading(f"{amount(value)}{span} {measures.SCALES[unit.lower()]}", "", Kind.NUMBER)
    if unit in ("ers", "er", "ish"):
        stem = amount(value)
        return Reading((stem[:-1] if stem[-1] == "e" and unit[0] == "e" else stem) + unit, "")
    return None


def _stopped(measure: Reading | str, core: str, trail: str, ahead: Ahead) -> Reading | str:
    """The stop of `ft.` ends a sentence only if a capital, or nothing, follows."""
    if isinstance(measure, str):
        return measure
    if core in ("sq", "fl"):
        return measure
    dotted = trail == "." and (re.findall(r"[a-zA-Z]+$", core) or [""])[0] in measures.UNITS_DOTTED
    if dotted and ahead.ends is None:
        return "wait"
    return replace(measure, trail="" if dotted and not ahead.ends else trail)


def _unit(unit: str, per: str | None, single: bool) -> str | None:
    # `5K`, `3M`, `2B` count; `5 k` and capitals that name units are told apart by the table.
    if unit not in measures.UNITS or unit in ("K", "B", "M") or (per and per not in measures.PER):
        return None
    one, many = measures.UNITS[unit]
    return (one if single else many) + (f" per {measures.PER[per]}" if per else "")


def _unit_after(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    match = _UNIT.fullmatch(core)
    if not match or before.kind is not Kind.NUMBER:
        return None
    if core in ("sq", "fl"):
        follows = ahead.among(("ft", "m", "km", "mi", "in", "yd") if core == "sq" else ("oz",))
        return "wait" if follows is None else Reading("square" if core == "sq" else "fluid", "", Kind.NUMBER)
    if core in ("bn", "mn", "tn"):
        return Reading(measures.SCALES[core], "", Kind.NUMBER)
    unit, per = match.groups()
    if not per and unit in measures.UNITS_JOINED:
        single = ("m", "g", "W", "V", "L", "h", "s")
        inches = unit == "in" and (trail == "." or before.earlier in ("ft", "feet", "foot"))
        if inches and trail == "." and ahead.ends is None:
            return "wait"
        inches = inches and (trail != "." or not ahead.ends)
        warm = (
            unit == "F" and re.fullmatch(r"-?\d{2,3}", before.word) and before.earlier.lower() not in lexicon.LABELLED
        )
        if unit not in single and not inches and not warm and before.lower not in ("sq", "fl"):
            return None
    part = re.fullmatch(r"\d/\d+", before.word) and not before.earlier.isdigit()
    spoken = _unit(unit, per, before.word == "1" or bool(part))
    return Reading(spoken, "", Kind.MEASURE) if spoken is not None else None


def _number(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | None:
    if re.fullmatch(r"\d{1,3}(_\d{3})+|\d{1,3}('\d{3})+|\d{1,3}(\.\d{3}){2,}", core):
        core = re.sub(r"\D", "", core)
    if re.fullmatch(r"\d{1,3}(\.\d{3})+,\d+|0,\d+", core):
        core = core.replace(".", "").replace(",", ".")
    if re.fullmatch(r"\d+(,\d+)+", core) and not _PLAIN.fullmatch(core):
        grouped = re.fullmatch(r"\d{1,2}(,\d\d)+,\d{3}", core)
        said = [amount(core)] if grouped else [amount(part) for part in core.split(",")]
        return Reading(", ".join(said), trail, Kind.NUMBER)
    if match := re.fullmatch(r"(?:#|No\.)(\d+)(?:[-–](\d+))?", core):
        until = f" to {amount(match[2])}" if match[2] else ""
        return Reading(f"number {amount(match[1])}{until}", trail, Kind.NUMBER)
    if match := re.fullmatch(rf"(-?(?:{NUMBER})),(-(?:{NUMBER}))", core):
        return Reading(f"{amount(match[1])}, {amount(match[2])}", trail, Kind.NUMBER)
    if match := _PLAIN.fullmatch(core):
        sign, value = match.groups()
        flown = before.earlier.lower() == "flight" and re.fullmatch(r"[A-Z][A-Z\d]", before.word)
        if (flown or before.lower in lexicon.NUMBERS_AS_NAMES) and re.fullmatch(r"[1-9]\d{2,3}", value) and not sign:
            return Reading(paired(int(value)), trail, Kind.NUMBER)
        if not sign and re.fullmatch(r"\d{4}", value) and _is_year(int(value), before):
            return Reading(year(int(value)), trail, Kind.NUMBER)
        if "." in value and value[0] != "." and before.lower in lexicon.VERSIONED:
            return Reading(" point ".join(amount(part) for part in value.split(".")), trail, Kind.NUMBER)
        return Reading(amount(core), trail, Kind.NUMBER)
    if match := _RANGE.fullmatch(core):
        first, last = match.groups()
        if re.fullmatch(r"\d{4}\D(\d\d|\d{4})", core) and _is_year(int(first), before):
            until = year(int(last)) if len(last) == 4 else cardinal(int(last))
            return Reading(f"{year(int(first))} to {until}", trail, Kind.NUMBER)
        # A life or a war: `(1879-1955)`.
        years = re.fullmatch(r"1[5-9]\d\d\D(1[5-9]|20)\d\d", core) and 0 < int(last) - int(first) < 120
        if years and (int(first) % 50 or int(last) % 50):
            return Reading(f"{year(int(first))} to {year(int(last))}", trail, Kind.NUMBER)
        # As likely as not: `50-50`.
        even = first == last == "50"
        scored = before.lower in lexicon.SCORED or before.kind is Kind.SCORE
        kind = Kind.SCORE if scored and trail == "," else Kind.NUMBER
        return Reading(f"{amount(first)}{' ' if even or scored else ' to '}{amount(last)}", trail, kind)
    return None


def _is_year(value: int, before: Before) -> bool:
    if 1900 <= value <= 2099 or before.kind in (Kind.MONTH, Kind.MONTH_DAY):
        return True
    return 1100 <= value < 1900 and before.lower in lexicon.YEAR_AFTER


def spell(text: str) -> str:
    """Letters and digits one by one."""
    return " ".join(digits(c) if c.isdigit() else c.upper() for c in text if c.isalnum())
