"""Sums of money to words: `$3.50`, `€2bn`, `100 USD`, `$1.5M-$2M`, `€ 5`."""

from __future__ import annotations

import re

from sled_tts.server.text import measures
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.numbers import NUMBER, amount, cardinal, decade

_SIGN = "|".join(re.escape(sign) for sign in sorted(measures.CURRENCIES, key=len, reverse=True))
_SCALE = r"(?:[kK]|[mM][mMnN]?|[bB][nN]?|[tT][nN]?)"
# Two digits after a comma are hundredths: nobody groups thousands like that.
_SUM = (
    rf"(?:{NUMBER}|\d{{1,3}}(?:\.\d{{3}})+,\d\d|\d+,\d\d|\d{{1,2}}(?:,\d\d)+,\d{{3}}|\d{{1,3}}(?:'\d{{3}})+(?:\.\d\d)?)"
)
# A code that says which dollars, or says it twice: `$5 CAD`.
_CODES = frozenset(sign for sign in measures.CURRENCIES if re.fullmatch("[A-Z]{3}", sign))
_LANDS = ("US", "CA", "AU", "NZ", "HK")
_MONEY = re.compile(
    rf"([-+]?)({_SIGN})([-+]?)({_SUM})({_SCALE})?(?:[-–—]\2?({_SUM})({_SCALE})?)?"
    r"(?:-(thousand|million|billion|trillion))?(\+?)(?:/(\w+)|(pp|pcm|pw|pa)|/-)?"
)
_CODED = re.compile(rf"([-+]?)\$({_SUM}{_SCALE}?)({'|'.join(sorted(_CODES))})")
_LOWER_CODES = frozenset(code.lower() for code in _CODES)
_SCALED = measures.SCALE_WORDS | {f"{word}-dollar" for word in ("million", "billion", "trillion", "thousand")}
_MONEY_AFTER = re.compile(rf"([-+]?)({_SUM})({_SIGN})")


def read_money(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """As `quantities.read_quantity`."""
    leads = not trail or (trail == "." and core == "Rs")
    land = core in _LANDS and before.lower != "the"
    if (core in measures.CURRENCIES or land) and leads and before.kind is not Kind.NUMBER:
        if ahead.first is None:
            return "wait"
        leads = ahead.first.isdigit() and not land
        leads = leads or (ahead.first == "$" and (land or core in _CODES))
        return Reading("", "", Kind.CURRENCY) if leads else None
    if before.kind is Kind.CURRENCY:
        core = before.word + (core.removeprefix("$") if before.word in _CODES else core)
    core = f"-{core[1:]}" if core[:1] == "–" else core
    if coded := _CODED.fullmatch(core):
        core = f"{coded[1]}{coded[3]}{coded[2]}"
    if re.fullmatch(r"\d+,\d\d", core) and not trail:
        # `9,99 €`: no list of numbers.
        signed = ahead.among(_LOWER_CODES | {"€", "£", "$"})
        if signed is not False:
            return Reading(_said(_plain(core), ahead.core.upper()), "", Kind.MONEY, True) if signed else "wait"
    if match := re.fullmatch(r"\$([2-9]0)s", core):
        return Reading(decade(int(match[1])), trail)
    after = _MONEY_AFTER.fullmatch(core)
    match = _MONEY.fullmatch(f"{after[1]}{after[3]}{after[2]}" if after else core)
    if not match:
        return _coded(core, trail, before)
    sign, mark, inner, value, scale, until, last_scale, word, more, per, each = match.groups()
    per = per or each
    value, until = _plain(value), _plain(until)
    absorbs = False
    if mark == "$" and not (trail or per or more) and (ahead.first is None or ahead.first.isupper()):
        coded_next = ahead.among(_LOWER_CODES)
        if coded_next is None:
            return "wait"
        if coded_next:
            mark, absorbs = ahead.core.upper(), True
    many = measures.CURRENCIES[mark][1]
    minus = {"-": "minus ", "+": "plus "}.get(sign or inner, "")
    tail = (" or more" if more else "") + (f" per {_unit(per)}" if per else "")
    if per and trail == ".":
        # `$5/mo. for` goes on.
        if ahead.ends is None:
            return "wait"
        trail = trail if ahead.ends else ""
    if not (scale or last_scale or word or trail or per or more or absorbs):
        scaled = ahead.among(_SCALED)
        if scaled is None:
            return "wait"
        if scaled:
            named, _, adjective = ahead.core.lower().partition("-")
            word = measures.SCALES.get(named, named)
            many = adjective or many
            span = f" to {amount(until)}" if until else ""
            return Reading(f"{minus}{amount(value)}{span} {word} {many}", trail, Kind.MONEY, True)
    if scale or last_scale or word:
        first, last = (
            measures.SCALES.get((scale or "").lower(), ""),
            measures.SCALES.get((last_scale or "").lower(), ""),
        )
        last = last or word or ("" if until else first)
        lead = f" {first}" if until and first and first != last else ""
        span = f"{lead} to {amount(until)}" if until else ""
        return Reading(
            f"{minus}{amount(value)}{span}{f' {last}' if last else ''} {many}{tail}", trail, Kind.MONEY, absorbs
        )
    if until and "." not in value + until:
        return Reading(f"{minus}{amount(value)} to {amount(until)} {many}{tail}", trail, Kind.MONEY, absorbs)
    span = f" to {_said(until, mark)}" if until else ""
    return Reading(minus + _said(value, mark) + span + tail, trail, Kind.MONEY, absorbs)


def _unit(per: str) -> str:
    if several := re.fullmatch(r"(\d+)([kKM]?)([a-zA-Z]*)", per):
        scale = measures.SCALES[several[2].lower()] if several[2] else ""
        unit = measures.UNITS.get(several[3], ("", several[3]))[1]
        said = ("" if scale and several[1] == "1" else amount(several[1]), scale, unit)
        return " ".join(part for part in said if part)
    return measures.PER.get(per) or measures.UNITS.get(per, (per, ""))[0]


def _plain(value: str | None) -> str:
    """With a point before the hundredths."""
    value = (value or "").replace("'", "")
    if re.fullmatch(r"[\d.]+,\d\d", value):
        return value.replace(".", "").replace(",", ".")
    return value


def _said(value: str, mark: str) -> str:
    one, many, cent, cents = measures.CURRENCIES[mark]
    whole, _, part = value.replace(",", "").partition(".")
    if len(part) not in (1, 2) or not cent:
        return f"{amount(value)} {one if value == '1' else many}"
    small, units = int(part.ljust(2, "0")), int(whole or 0)
    said = [f"{cardinal(units)} {one if units == 1 else many}"] if units or not small else []
    said += [f"{cardinal(small)} {cent if small == 1 else cents}"] if small else []
    return " and ".join(said)


def _coded(core: str, trail: str, before: Before) -> Reading | None:
    code, _, per = core.partition("/")
    names = measures.CURRENCIES.get(code) if per.isalnum() or code == core else None
    if names and (code.isalpha() or len(code) > 1) and before.kind is Kind.NUMBER:
        said = names[0] if before.word == "1" else names[1]
        return Reading(f"{said} per {_unit(per)}" if per else said, trail, Kind.MONEY)
    return None
