"""Numbers in shapes of their own: fractions, marks, powers of ten, sizes, places on a map, sections of law."""

from __future__ import annotations

import re
from dataclasses import replace

from sled_tts.server.text import lexicon, measures
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.numbers import NUMBER, amount, cardinal, digits, fraction


def read_shape(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """As `quantities.read_quantity`."""
    if match := re.fullmatch(r"(\d{1,3})/(\d{1,4})(?:th|ths|rd|rds)?", core):
        if (read := _out_of(match[1], match[2], before, ahead)) is not None:
            return read if isinstance(read, str) else replace(read, trail=trail)
        if before.lower in lexicon.VERSIONED:
            return Reading(f"{amount(match[1])} or {amount(match[2])}", trail, Kind.NUMBER)
        spoken = fraction(int(match[1]), int(match[2]))
        whole = before.kind is Kind.NUMBER and before.word.isdigit() and " over " not in spoken
        if whole and int(match[1]) < int(match[2]):
            spoken = "and " + (f"a {spoken[4:]}" if spoken.startswith("one ") else spoken)
        return Reading(spoken, trail, Kind.NUMBER)
    # A mark, or a mean of marks.
    match = re.fullmatch(r"(\d+\.\d+)/(4|5|10|100|4\.0|5\.0|10\.0)", core)
    if match and float(match[1]) <= float(match[2]):
        return Reading(f"{amount(match[1])} out of {amount(match[2])}", trail, Kind.NUMBER)
    # A plan or a section of law: `401(k)`, `501(c)(3)`.
    if match := re.fullmatch(r"([1-9])0([1-9])(?:(k)|\(([a-z]))\)?(?:\((\d)\)?)?", core):
        parts = [amount(match[1]), "oh", amount(match[2]), (match[3] or match[4]).upper(), amount(match[5] or "")]
        return Reading(" ".join(part for part in parts if part), trail)
    if match := re.fullmatch(r"f/(\d+(?:\.\d+)?)", core):
        return Reading(f"F {amount(match[1])}", trail)
    if match := re.fullmatch(r"([A-Z])\.(\d{3})", core):
        return Reading(f"{match[1]} dot {digits(match[2])}", trail)
    if match := re.fullmatch(r"(\d{1,2})(\d\d)p", core):
        return Reading(f"{amount(match[1])} {amount(match[2])} P", trail)
    if match := re.fullmatch(rf"({NUMBER})[eE]([-+]?\d+)", core):
        lead = "" if match[1] == "1" else f"{amount(match[1])} times "
        return Reading(f"{lead}ten to the {amount(match[2].lstrip('+'))}", trail, Kind.NUMBER)
    if match := re.fullmatch(r"(\d+)°(\d+)'(?:(\d+(?:\.\d+)?)\")?([NSEW]?)", core):
        names = ("degrees", "minutes", "seconds")
        said = [f"{amount(n)} {name}" for n, name in zip(match.groups()[:3], names, strict=True) if n]
        return Reading(" ".join([*said, lexicon.WINDS.get(match[4], "")]).strip(), trail)
    per = re.fullmatch(rf"({NUMBER})/([a-zA-Z]+(?:\^[23])?)", core)
    if per and (unit := measures.PER.get(per[2]) or measures.UNITS.get(per[2], ("",))[0]):
        return Reading(f"{amount(per[1])} per {unit}", trail)
    if match := re.fullmatch(r"(\d+)-(\d+)/(\d+)", core):
        part = fraction(int(match[2]), int(match[3]))
        return Reading(f"{amount(match[1])} and {f'a {part[4:]}' if part[:4] == 'one ' else part}", trail, Kind.NUMBER)
    if core == "24/7/365":
        return Reading("twenty-four seven, three sixty-five", trail)
    if core in lexicon.WINDS and before.word[-1:] in "°\"'" and before.word[:1].isdigit():
        return Reading(lexicon.WINDS[core], trail)
    if match := re.fullmatch(rf"({NUMBER})([\"'])[x×]({NUMBER})(?:[\"']|(?=$))", core):
        return Reading(f"{amount(match[1])} by {amount(match[3])} {'inches' if match[2] != chr(39) else 'feet'}", trail)
    if match := re.fullmatch(rf"({NUMBER})[xX]/([a-z]+)", core):
        return Reading(f"{amount(match[1])} times per {measures.PER.get(match[2], match[2])}", trail)
    if match := re.fullmatch(r"(1,?0{1,2}|1,?000,?000|1,?000)s", core):
        follows = ahead.among(("of",)) if not trail else False
        if follows is not False:
            return "wait" if follows is None else Reading(f"{cardinal(int(match[1].replace(',', '')))[4:]}s", "")
    if match := re.fullmatch(r"'(\d\d)", core):
        return Reading(("oh " if match[1][0] == "0" else "") + cardinal(int(match[1])), trail, Kind.NUMBER)
    if match := re.fullmatch(r"([-+])(\d+)([a-z])", core):
        return Reading(f"{amount(match[1] + match[2])} {match[3]}", trail)
    if match := re.fullmatch(r"(\d)'(\d{1,2})\"?", core):
        return Reading(f"{cardinal(int(match[1]))} foot {cardinal(int(match[2]))}", trail)
    if match := re.fullmatch(r"(\d)x(\d{1,2})s", core):
        return Reading(f"{amount(match[1])} by {amount(match[2])}s".replace("xs", "xes"), trail)
    if match := re.fullmatch(r"(?!0x)(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)(?:x(\d+))?|(\d+(?:\.\d+)?)×(\d+(?:\.\d+)?)", core):
        return Reading(" by ".join(amount(part) for part in match.groups() if part), trail, Kind.NUMBER)
    return None


def _out_of(part: str, whole: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """Slashes that are no fractions: `24/7`, `50/50`, `5/5`, a mark after a word for marks or before `stars`."""
    above, below = int(part), int(whole)
    if f"{part}/{whole}" in ("24/7", "9/11", "20/20") or (above + below == 100 and min(above, below) > 4):
        return Reading(f"{cardinal(above)} {cardinal(below)}", "")
    if before.lower in lexicon.PARTED and below > 1:
        return Reading(f"{cardinal(above)} of {cardinal(below)}", "", Kind.NUMBER)
    if below not in (5, 10, 100) and above != below and not (before.lower in lexicon.RATED and below > 10):
        return None
    rated = above == below > 1 or before.lower in lexicon.RATED
    given = before.lower in ("it", "this", "that", "them", "him", "her", "me", "a")
    rated = rated or (given and before.earlier.lower() in lexicon.GIVEN)
    if not rated:
        if ahead.first is None:
            return "wait"
        starred = ahead.among(("star", "stars", "rating"))
        if not starred:
            return "wait" if starred is None else None
    return Reading(f"{cardinal(above)} out of {cardinal(below)}", "", Kind.NUMBER)
