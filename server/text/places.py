"""Addresses of places: states, winds, streets, what comes before the number of a room."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.context import Ahead, Before, Kind, Reading

_STREETS = {
    "St": "street", "Ave": "avenue", "Rd": "road", "Ln": "lane", "Dr": "drive", "Pl": "place", "Ct": "court",
    "Sq": "square", "Ter": "terrace", "Cir": "circle",
}  # fmt: skip
# Clear after any name; the others only after a house number and a name.
_CLEAR = ("St", "Ave", "Rd")
_COUNTED = {
    "apt": "apartment", "ste": "suite", "bldg": "building", "rm": "room", "ext": "extension", "exp": "expires",
}  # fmt: skip
_CORNERS = {"NE": "northeast", "NW": "northwest", "SE": "southeast", "SW": "southwest"}
_WINDY = frozenset(
    lexicon.words("wind winds gusts from heading headed heads head toward towards moving facing blowing")
)
_SIDES = frozenset(lexicon.words("corner side part quadrant entrance coast winds wind region area"))
_ROADS = frozenset(lexicon.words("st ave blvd rd street avenue boulevard road drive"))
_ROUTES = frozenset(lexicon.words("route rte highway hwy interstate"))


def read_place(core: str, stop: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """A reading, None when it is no such word, `"wait"` when what follows decides; `stop` as `letters.read_short`."""
    if core in lexicon.STATE_NAMES and before.word[:1].isupper() and not before.starts:
        postal = _postal(core, ahead) if not stop else False
        if postal is None:
            return "wait"
        if core in ("OR", "IN", "OH") and not stop and not postal:
            # `Monday, OR Tuesday`.
            if ahead.first is None:
                return "wait"
            if ahead.first.isupper():
                return None
        clear = before.comma and not before.word.isupper() and core not in lexicon.STATES_UNSURE
        if postal or clear:
            return Reading(lexicon.STATE_NAMES[core], stop)
    if (wind := lexicon.WINDS.get(core) or _CORNERS.get(core)) is not None:
        return _wind(core, wind, stop, before, ahead)
    if core in _STREETS and stop[:1] != ".":
        housed = before.earlier[:1].isdigit() and before.word[:1].isupper()
        named = before.word[:1].isupper() or before.word[:1].isdigit()
        if not before.starts and (housed or (named and core in _CLEAR)):
            return Reading(_STREETS[core], stop)
    if core.lower() in _COUNTED and core != "apt" and not stop:
        if ahead.first is None:
            return "wait"
        return Reading(_COUNTED[core.lower()], "") if ahead.first.isdigit() or ahead.first == "#" else None
    return None


def _postal(state: str, ahead: Ahead) -> bool | None:
    """Whether a postal code comes next; None when that is not known yet."""
    if ahead.first is None:
        return None
    if ahead.done:
        return bool(re.fullmatch(r"\d{5}(-\d{4})?|[A-Z]\d[A-Z]", ahead.core))
    canadian = r"|[A-Z]|[A-Z]\d|[A-Z]\d[A-Z]" if state in lexicon.PROVINCES else ""
    return None if re.fullmatch(rf"\d{{1,5}}|\d{{5}}-\d{{0,4}}{canadian}", ahead.core) else False


def _wind(core: str, wind: str, stop: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """`123 N. Main`, `Oak Ave NW`, `I-80 W`, `winds NW`, `the NE corner`."""
    routed = re.fullmatch(r"[A-Z]{1,2}-\d+", before.word) or before.earlier.lower() in _ROUTES
    windy = before.lower in _WINDY or (before.lower == "the" and before.earlier.lower() in _WINDY)
    windy = windy or before.kind is Kind.MEASURE
    if before.lower in _ROADS or routed or (core in _CORNERS and windy):
        return Reading(wind, stop)
    if before.kind is Kind.NUMBER and stop in ("", "."):
        if ahead.first is None:
            return "wait"
        return Reading(wind, "") if ahead.first.isupper() else None
    if core in _CORNERS and not stop:
        beside = ahead.among(_SIDES)
        return "wait" if beside is None else Reading(wind, "") if beside else None
    return None
