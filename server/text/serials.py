"""What is read sign by sign: order numbers, codes, card digits, identifiers of machines, chemical formulas."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.labels import Label
from sled_tts.server.text.numbers import amount, digits
from sled_tts.server.text.quantities import spell

_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{1,2}-\d{1,2}-(?:\d{4}|\d\d)")
_MASKED = re.compile(r"(?:(?:[xX*]{2,}-?)+(?=\d{2,6}$)|x(?=\d{4}$))(\d+)")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MAC = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}", re.IGNORECASE)
_IPV6 = re.compile(r"(?=.*\d)(?=.*(?:::|[a-fA-F]))[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}")
_HASH = re.compile(r"(?=.*(?:\d.*[a-f].*\d|[a-f].*\d.*[a-f]))[0-9a-f]{7,64}")
_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{6}|([0-9a-fA-F])\1\1)")
_ATOM = re.compile(r"([A-Z][a-z]?)(\d{0,2})")
_NUMBERED = re.compile(r"(?=.*\d{4})(?=.*[A-Z])(?:[A-Z]+|\d+)(?:-(?:[A-Z]+|\d+))*")
# A code in groups, or letters and digits in one.
_GROUPED = re.compile(r"(?!XX)(?=.*\d)(?=.*[A-Z-])[A-Z\d]+(?:-[A-Z\d]+)*")


def read_serial(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | str | None:
    """A reading, None when it is none of these, `"wait"` when what follows decides."""
    if (code := _code(core, before)) is not None:
        # A code in groups is said with a pause after each.
        if not trail and not ahead.word and not ahead.done:
            return "wait"
        if before.lower in lexicon.CODED_LINKS and re.fullmatch(r"[1-9]\d\d", core) and ahead.word[:1].isalpha():
            # `The code is 200 lines long`.
            return None
        return Reading(code, trail or ("," if ahead.word[:1].isdigit() else ""), Kind.CODE)
    if (match := _MASKED.fullmatch(core)) or _COLOUR.fullmatch(core):
        return Reading(spell(match[1] if match else core), trail, Kind.CODE)
    if _UUID.fullmatch(core) or _MAC.fullmatch(core) or _HASH.fullmatch(core):
        return Reading(", ".join(spell(part) for part in re.split("[:-]", core)), trail)
    if _IPV6.fullmatch(core):
        return Reading(" ".join(" colon ".join(spell(part) for part in core.split(":")).split()), trail)
    if core.isdecimal():
        return None
    if re.fullmatch(r"\d{5}-\d{4}", core) and before.word in lexicon.STATES:
        return Reading(", ".join(digits(part) for part in core.split("-")), trail)
    return _numbered(core, trail) or _formula(core, trail)


def _code(core: str, before: Before) -> str | None:
    """What a word has announced as a code."""
    grouped = before.label is Label.CODE or (before.label is Label.NAMED and core[0].isalpha())
    if grouped and _GROUPED.fullmatch(core) and not re.fullmatch(r"\d{4}-\d\d-\d\d", core):
        parts = core.split("-")
        joint = ", " if all(part.isdecimal() for part in parts) else " "
        return joint.join(spell(part) for part in parts)
    hashed = core[0] == "#" and core[1:].isdecimal() and before.label is not Label.NONE and len(core) > 4
    if hashed or (core.isdecimal() and _coded(core, before)):
        return ("number " if core[0] == "#" else "") + digits(core)
    return None


def _coded(number: str, before: Before) -> bool:
    """Whether digits are a code: after a word for one, after the first part of one, a postal code after a state."""
    if before.kind is Kind.CODE and not before.starts:
        return True
    if len(number) == 5 and before.word in lexicon.STATES:
        return True
    if before.label is Label.PHONE and len(number) == 3:
        return bool(re.fullmatch(r"[2-8]11|911|988|999|112", number))
    if len(number) < 3 or (len(number) == 4 and number[:2] in ("19", "20")):
        return False
    if before.lower in ("is", "number") and len(number) > 5 and number[-3:] != "000":
        return True
    if before.label is Label.NAMED and number[-3:] != "000":
        return len(number) > (5 if before.lower in lexicon.CODED_LINKS else 4)
    return before.label is Label.CODE


def _numbered(core: str, trail: str) -> Reading | None:
    lead = "number " if core[0] == "#" else ""
    core = core.lstrip("#")
    parts = core.split("-")
    if all(part.isdecimal() for part in parts) and not _DATE.fullmatch(core):
        long = max(len(part) for part in parts) > 3
        if (len(parts) > 2 and long) or (lead and (len(parts) > 1 or len(core) > 4)):
            return Reading(lead + ", ".join(digits(part) for part in parts), trail)
        return None
    if lead and len(parts) > 1 and _GROUPED.fullmatch(core):
        return Reading(lead + " ".join(spell(part) for part in parts), trail)
    digit_run = any(len(part) > 4 and part.isdecimal() for part in parts)
    if len(parts) > 1 and (len(parts) > 2 or digit_run) and _NUMBERED.fullmatch(core):
        return Reading(lead + " ".join(spell(part) for part in parts), trail)
    if match := re.fullmatch(r"([A-Z]{1,5})-?(\d{4,})", core):
        if len(match[2]) == 4 and (match[2][:2] in ("19", "20") or "-" in core):
            return None
        return Reading(f"{lead}{spell(match[1])} {digits(match[2])}", trail)
    pieces = re.findall(r"[A-Z]+|\d+", core) if re.fullmatch(r"[A-Z\d]+", core) else []
    if (lead and len(pieces) > 1) or (len(pieces) > 2 and len(core) > 4 and not _formula(core, trail)):
        return Reading(lead + spell(core), trail)
    return None


def _formula(core: str, trail: str) -> Reading | None:
    """`C6H12O6`: symbols of elements are spelled, their numbers are not."""
    atoms = _ATOM.findall(core) if re.fullmatch(rf"(?:{_ATOM.pattern}){{2,}}", core) else []
    if not any(count for _, count in atoms) or not all(element in lexicon.ELEMENTS for element, _ in atoms):
        return None
    return Reading(" ".join(f"{spell(name)} {amount(n)}" if n else spell(name) for name, n in atoms), trail)
