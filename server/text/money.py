"""Sums of money to words: `$3.50`, `€2bn`, `100 USD`."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.numbers import NUMBER, amount, cardinal

_SIGN = "|".join(re.escape(sign) for sign in sorted(lexicon.CURRENCIES, key=len, reverse=True))
_SCALE = r"(?:[kK]|[mM][mMnN]?|[bB][nN]?|[tT][nN]?)"
_MONEY = re.compile(rf"([-+]?)({_SIGN})([-+]?)({NUMBER})(?:[-–]\2?({NUMBER}))?({_SCALE})?(\+?)(?:/(\w+))?")
_MONEY_AFTER = re.compile(rf"([-+]?)({NUMBER})([€£¥₹₽₩¢$])")


def read_money(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """As `quantities.read_quantity`."""
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
    match = re.fullmatch(rf"({NUMBER})([A-Z]{{3}})|([A-Z]{{3}})({NUMBER})", core)
    names = lexicon.CURRENCY_CODES.get((match[2] or match[3]).lower()) if match else None
    if match and names:
        value = match[1] or match[4]
        return Reading(f"{amount(value)} {names[0] if value == '1' else names[1]}", trail)
    return None
