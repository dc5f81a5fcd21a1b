"""One written word to what is said: punctuation off, the right rule, punctuation back on."""

from __future__ import annotations

import re
from dataclasses import replace

from sled_tts.server.text import lexicon, measures
from sled_tts.server.text.characters import greek, symbol
from sled_tts.server.text.code import MATHS, operators, read_code
from sled_tts.server.text.context import Ahead, Before, Kind, Reading, punctuation
from sled_tts.server.text.letters import identifier, read_letters, read_short
from sled_tts.server.text.parts import ordinary, parted
from sled_tts.server.text.places import read_place
from sled_tts.server.text.quantities import read_quantity, spell
from sled_tts.server.text.serials import read_serial
from sled_tts.server.text.sizes import read_sized
from sled_tts.server.text.web import read_address

_FIRST = frozenset("(0123456789")
_KEYS = {"#": "pound", "*": "star"}
_SMILEY = re.compile(r"[:;=8xX]['-]?[)(DPp/\\|oO3*]+|</?3|[oO]_+[oO]|-_+-|[Tx;]_[Tx;]|>_+<|\^_?\^|:'\(")
# Two of a kind: `20Hz–20kHz`, `10x-100x`, `7 a.m.–3 p.m.`, `noon–1`, `M–F`.
_SPAN = re.compile(
    r"((?:\d[\d.,]*)[A-Za-z%°]+(?=[-–]\d[\d.,]*[A-Za-z%°])|[ap]\.?m(?=\.?[-–]\d))\.?[-–](\d[\d.,]*[A-Za-z%°]*)|([a-z]+(?=–\d)|[A-Z](?=–[A-Z]$))–(\d[\w:.]*|[A-Z])"
)
_COMPARISONS = {
    "~": "about", "≈": "about", "<": "less than", ">": "more than", "≤": "at most", "≥": "at least", "<=": "at most",
    ">=": "at least", "±": "plus or minus", "↑": "up", "↓": "down", "▲": "up", "▼": "down",
}  # fmt: skip
# Signs that part what is on either side.
_ALONE = ("-", "–", "—", "--", "---", "|", "•", "·", "●")
_TYPED = frozenset(lexicon.words("press type enter use the a an character slash hit"))
_COMPARED = re.compile(r"([~≈≤≥±↑↓▲▼]|[<>]=?)([-+]?[\d.$€£¥].*)")


def read_word(word: str, before: Before, ahead: Ahead, *, code: bool = False) -> Reading | None:
    """How `word` is said, in plain characters; None when what follows it decides and is not there yet."""
    found = _read(word, before, ahead, code)
    if before.kind is Kind.CURRENCY and found and found.kind is not Kind.MONEY:
        # What seemed to lead a sum of money did not.
        return replace(found, text=f"{measures.CURRENCIES.get(before.word, ('', spell(before.word)))[1]} {found.text}")
    return found


def _read(word: str, before: Before, ahead: Ahead, code: bool) -> Reading | None:
    if not code and ordinary(word):
        if before.kind is Kind.NUMBER and word.lower() in measures.SCALE_WORDS:
            return Reading(word, "", Kind.NUMBER)
        return Reading(word, "")
    sized = read_sized(word, before, ahead) if word[:1] in _FIRST and not code else None
    if sized is not None:
        return sized if isinstance(sized, Reading) else None
    if _SMILEY.fullmatch(word):
        return Reading("", "")
    _lead, core, trail = parted(word)
    if trail == ")" and not (_lead or before.word) and re.fullmatch(r"\d{1,3}|[A-Za-z]", core):
        # The mark of an item: `1) First`.
        trail = "."
    # Only here does it matter whether a comma follows the stop.
    raw = re.sub(r"[\"')\]}]", "", trail)
    trail = punctuation(trail)
    if before.lower in lexicon.NUMBER_WORDS and re.match(r"#\w", core):
        # `order number #4821` has its name already.
        core = core[1:]
    if not core:
        return Reading("", trail if trail != "'" else "")
    if code:
        return Reading(read_code(core), trail)
    short = read_place(core, raw, before, ahead) or read_short(core, raw, before, ahead)
    if isinstance(short, Reading):
        return replace(short, trail=punctuation(short.trail))
    if short == "wait":
        return None
    if ordinary(core):
        return Reading(core, trail)
    if (match := re.fullmatch(r"([a-z]|[A-Za-z][a-z]{1,3})\.(\d[\d–-]*)", core)) and match[
        1
    ].lower() in lexicon.COUNTED:
        counted = read_word(match[2] + trail, Before(match[1], before.word), ahead)
        return counted and replace(counted, text=f"{lexicon.COUNTED[match[1].lower()]} {counted.text}")
    for rule in (read_address, read_serial, read_quantity):
        found = rule(core, trail, before, ahead)
        if found == "wait":
            return None
        if isinstance(found, Reading):
            return found
    if match := _COMPARED.fullmatch(core):
        compared = read_word(match[2] + trail, before, ahead)
        return compared and replace(compared, text=f"{_COMPARISONS[match[1]]} {compared.text}")
    return _composed(core, trail, before, ahead)


def _composed(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | None:
    if core == ">" and before.word[:1].isupper() and len(before.word) > 1:
        # A way through menus: `File > Save As`.
        if ahead.first is None:
            return None
        if ahead.first.isupper():
            return Reading(",", "")
    if core == "★":
        return Reading("stars" if before.kind is Kind.NUMBER else "", trail)
    if core in "→➜" and not before.word:
        return Reading("", trail)
    if before.lower in ("press", "hit", "dial", "or", "then") and core in _KEYS:
        return Reading(_KEYS[core], trail)
    if re.fullmatch(r"d[a-z]/d[a-z]", core):
        return _joined(core.split("/"), " over ", trail, before, ahead)
    if core in "↑↓▲▼":
        if ahead.first is None:
            return None
        return Reading(_COMPARISONS[core] if ahead.first.isdigit() else "", trail)
    if core == "/" and before.word and before.lower not in _TYPED:
        return Reading(",", "")
    if (said := symbol(core)) is not None:
        return Reading(said, trail)
    if core in measures.CURRENCIES and not core.isalpha():
        return Reading(measures.CURRENCIES[core][1], trail)
    if not any(c.isalnum() or greek(c) for c in core) and core not in _ALONE:
        return Reading(" ".join(symbol(c) or "" for c in core) if len(core) == 2 and core[0] != core[1] else "", trail)
    if loud := re.fullmatch(r"([A-Z]+)'(S|T|VE|LL|RE|D|M)", core):
        stem = read_word(loud[1], before, Ahead("", True)) if loud[2] == "S" else None
        return Reading(f"{stem.text}'s" if stem else core.capitalize(), trail)
    if several := re.fullmatch(r"([A-Za-z]+)\((e?s)", core):
        return Reading(several[1] + several[2], trail)
    if possessive := re.fullmatch(r"(.*[A-Z0-9.]|[A-Z]+&[A-Z]+)('s|s')", core):
        owner = read_word(possessive[1], before, Ahead("", True))
        return owner and Reading(f"{owner.text}'s", trail)
    if core in _ALONE:
        # The space before it has been said, so the mark stands apart.
        return Reading("" if before.starts or before.comma else ",", "")
    span = re.fullmatch(r"[A-Z][a-z]+\.?[-–]([A-Z][a-z]{2,4})", core) if trail == "." else None
    if span and span[1].lower() in lexicon.WEEKDAYS.keys() | lexicon.MONTH_SHORT.keys():
        # The stop of a short name, as in `letters`.
        if ahead.ends is None:
            return None
        trail = "." if ahead.ends else ""
    if (letters := read_letters(core, trail, before, ahead)) is not None:
        return letters
    if len(core) == 1 and (name := greek(core)):
        return Reading(name, trail)
    if re.fullmatch(r"#\w*[A-Za-z]\w*", core):
        return Reading(f"hashtag {identifier(core[1:])}", trail)
    if re.fullmatch(r"@\w+", core):
        return Reading(f"at {identifier(core[1:])}", trail)
    if re.fullmatch(r"0x[0-9a-fA-F]+", core):
        return Reading(spell(core), trail)
    if (span := re.fullmatch(_SPAN, core)) is not None:
        return _joined([span[1] or span[3], span[2] or span[4]], " to ", trail, before, ahead)
    if re.fullmatch(r"\*\d+", core):
        # Emphasis that ends in a later word.
        return read_word(core[1:] + trail, before, ahead)
    if re.fullmatch(r"'?\d0s[-–]'?\d0s", core):
        return _joined(re.split("[-–]", core), " to ", trail, before, ahead)
    if re.fullmatch(r"--[a-z][a-z-]+(=\S*)?", core):
        return Reading(read_code(core), trail)
    if (several := re.fullmatch(r"([A-Z]{1,2})(\d{1,3})('\d\d)?[-–](\1(\d{1,3})('\d\d)?)", core)) and (
        several[3] or int(several[2]) < int(several[5])
    ):
        # `Q1–Q3`, `C1-C5`.
        return _joined([re.split("[-–]", core)[0], several[4]], " to ", trail, before, ahead)
    if re.fullmatch(r"[\w.]+@\d\w*", core):
        return _joined(core.split("@"), " at ", trail, before, ahead)
    if re.search(r"—|--|…|\.\.\.|–(?=\D)", core):
        return _joined(re.split(r"—|-{2,}|–|…|\.{3}", core), ", ", trail, before, ahead)
    if half := re.fullmatch(r"(\d+/\d+|#\d+)-([A-Za-z-]+)", core):
        return _joined([half[1], half[2]], " ", trail, before, ahead)
    for names in (lexicon.DAYS, lexicon.MONTH_NAMES):
        if "/" in core and all(piece.lower() in names and piece[0].isupper() for piece in core.split("/")):
            pieces = [names[piece.lower()] for piece in core.split("/")]
            return Reading((" or " if len(pieces) == 2 else ", ").join(pieces), trail)
    unit, _, per = core.partition("/")
    if unit in measures.UNITS and per in measures.PER and not unit.isupper():
        return Reading(f"{measures.UNITS[unit][1]} per {measures.PER[per]}", trail)
    if re.fullmatch("[a-z]{3,}s", unit) and len(per) > 2 and per in measures.PER:
        return Reading(f"{unit} per {measures.PER[per]}", trail)
    if re.fullmatch(r"-?\d+°?[CF]?/-?\d+°?[CF]?", core) and re.fullmatch(r".*[°CF]/.*[°CF]", core):
        return _joined(core.split("/"), ", ", trail, before, ahead)
    if re.fullmatch(r"\d+/\d+[-–]\d+/\d+", core):
        return _joined(re.split("[-–]", core), " to ", trail, before, ahead)
    if re.fullmatch(r"[$€£]\d[\d.,]*(/[$€£]\d[\d.,]*)+", core):
        return _joined(core.split("/"), ", ", trail, before, ahead)
    if re.fullmatch(r"[^\W_][^/=:@]*(/[^\W_][^/=@]*)+", core) and re.search(
        r"[A-Za-z]['.]?[A-Za-z]|[A-Z]/[A-Z]|[A-Z]\d", core
    ):
        # `TCP/IP` is one name, `red/green` two choices.
        shouted = all(len(piece) > 1 and piece in lexicon.SHOUTED for piece in core.split("/"))
        one = (
            core.count("/") > 1
            or {"and", "or"} & set(core.lower().split("/"))
            or re.fullmatch(r"[A-Z]{3,}/\d+|[A-Z]{2,}\d+/\d\d", core)
            or (re.fullmatch(r"[A-Z]+/[A-Z]+", core) and not shouted)
        )
        pieces = [re.sub(r"(?<=[a-z])\.$", "", piece) for piece in core.split("/")]
        return _joined(pieces, " " if one else " or ", trail, before, ahead)
    if re.fullmatch(r"[a-z]+(/[a-z]+)+", core):
        return _joined(core.split("/"), " or " if core.count("/") == 1 else " ", trail, before, ahead)
    if re.fullmatch(r"[A-Za-z]+[&+][A-Za-z]+", core):
        sign = "&" if "&" in core else "+"
        if re.fullmatch(r"[A-Z]{1,2}&[A-Z]{1,2}s?", core):
            # A company's initials, also where they spell a word: `AT&T`.
            plural = "'s" if core[-1] == "s" else ""
            return Reading(" and ".join(spell(part.rstrip("s")) for part in core.split("&")) + plural, trail)
        return _joined(core.split(sign), " and " if sign == "&" else " plus ", trail, before, ahead)
    if re.search(r"\d|^[a-z]\W", core) and MATHS.fullmatch(core) and re.search(r"[+*/=<>×÷^≤≥≠≈±→]", core):
        return Reading(operators(core), trail, Kind.NUMBER if core[-1].isdigit() else Kind.PLAIN)
    if "-" in core.strip("-") and re.fullmatch(r"[\w'.%$°]+(:\d\d)?(-[\w'.%$°]+)+", core):
        pieces = core.split("-")
        # `25-yr-old`: of what comes in number, a single one.
        pieces = [
            measures.UNITS[piece][0] if at and pieces[at - 1].isdecimal() and len(piece) > 1 and piece in measures.UNITS
            else piece
            for at, piece in enumerate(pieces)
        ]  # fmt: skip
        mixed = any((piece.isupper() and len(piece) > 1) or piece[:1].isdigit() for piece in pieces)
        return _joined(pieces, " " if mixed else "-", trail, before, ahead)
    if re.fullmatch(r"[A-Za-z][A-Za-z']*([,;:!?][A-Za-z][A-Za-z']*)+", core):
        return _joined(re.split(r"(?<=[,;:!?])", core), " ", trail, before, ahead)
    if re.fullmatch(r"[A-Za-z]{2,}\.[A-Z][a-z]+", core):
        return _joined(core.replace(".", ". ").split(), " ", trail, before, ahead)
    if re.fullmatch(r"[A-Za-z]+(?:'[A-Za-z]+)*", core):
        return Reading(core, trail)
    return Reading(read_code(core), trail)


def _joined(pieces: list[str], joint: str, trail: str, before: Before, ahead: Ahead) -> Reading:
    """Each piece as a word of its own."""
    said = []
    for piece in pieces:
        if piece:
            reading = read_word(piece, before, Ahead("", True))
            assert reading is not None
            said.append(reading.text + reading.trail)
            before = Before(piece, before.word, reading.kind, False)
    return Reading(joint.join(said), trail, before.kind)
