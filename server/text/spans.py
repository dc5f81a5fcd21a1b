"""A dash by itself between two of a kind: `10:30 - 11:45`, `$5 - $6`, `5 - 10 people`; or a difference."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon, measures
from sled_tts.server.text.context import Ahead, Before, Kind, Reading

_ENDS = ("noon", "midnight", "close", "closing", "late")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_SUMS = frozenset({"=", "+", "-", "–", "*", "/", "×", "÷", "x", "minus", "plus", "times"})


def read_span(before: Before, ahead: Ahead) -> Reading | str | None:
    """As `quantities.read_quantity`, for `-` and `–`."""
    if before.kind is Kind.NUMBER:
        return _numbers(before, ahead)
    if before.kind not in (Kind.TIME, Kind.MONEY, Kind.MONTH, Kind.MONTH_DAY, Kind.MEASURE):
        return None
    if before.kind is Kind.MONTH and not before.earlier[:1].isdigit():
        return None
    if ahead.first is None:
        return "wait"
    if not (ahead.first.isdigit() or ahead.first in measures.CURRENCIES):
        dated = before.kind in (Kind.MONTH, Kind.MONTH_DAY) and ahead.first.isupper()
        ends = _ENDS if before.kind is Kind.TIME else lexicon.MONTH_NAMES if dated else ()
        follows = ahead.among(ends)
        if not follows:
            return "wait" if follows is None else None
    kind = {Kind.MONTH: Kind.PLAIN, Kind.MONTH_DAY: Kind.MONTH}.get(before.kind, before.kind)
    return Reading("to", "", kind)


def _numbers(before: Before, ahead: Ahead) -> Reading | str | None:
    """From less to more, or after a word for hours and pages, it is a span; otherwise a difference."""
    if ahead.first is None:
        return "wait"
    if not ahead.first.isdigit():
        return None
    if re.fullmatch(r"\d[\d:.,]*[ap]?", ahead.core) and not ahead.done:
        return "wait"
    first, last = _NUMBER.match(before.word), _NUMBER.match(ahead.core)
    rises = first and last and float(first[0].replace(",", "")) < float(last[0].replace(",", ""))
    spans = (rises and before.earlier not in _SUMS) or before.earlier.lower() in lexicon.SPANNED
    if spans or re.match(r"\d[\d:]*[ap]\.?m", ahead.core):
        return Reading("to", "", Kind.NUMBER)
    return Reading("minus", "")
