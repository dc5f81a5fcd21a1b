"""One written word to what is said: punctuation off, the right rule, punctuation back on."""

from __future__ import annotations

import re
from dataclasses import replace

from sled_tts.server.text import lexicon, measures
from sled_tts.server.text.characters import greek, symbol
from sled_tts.server.text.context import Ahead, Before, Kind, Reading
from sled_tts.server.text.letters import identifier, read_letters, read_short
from sled_tts.server.text.numbers import amount
from sled_tts.server.text.quantities import read_quantity, spell
from sled_tts.server.text.serials import read_serial
from sled_tts.server.text.web import read_address

_SPLIT = re.compile(r"""^(["'(\[{]*)(.*?)([.,!?;:"')\]}…]*)$""", re.DOTALL)
_WORD = re.compile(r"[A-Za-z][a-z]*(?:'[a-z]+)?")
_STRANGE = re.compile(r"[^A-Za-z .,?!';:-]")
_SMILEY = re.compile(r"[:;=8xX]['-]?[)(DPp/\\|oO3*]+|<3|\^_?\^|:'\(")
_COMPARISONS = {
    "~": "about", "≈": "about", "<": "less than", ">": "more than", "≤": "at most", "≥": "at least", "<=": "at most",
    ">=": "at least", "±": "plus or minus",
}  # fmt: skip
# Signs that part what is on either side.
_ALONE = ("-", "–", "—", "--", "---", "|")
_COMPARED = re.compile(r"([~≈≤≥±]|[<>]=?)([-+]?[\d.$€£¥].*)")
_MATHS = re.compile(r"(?:-?[\w.]+)(?:(?:==|!=|<=|>=|[-+*/=<>×÷^≤≥≠≈±→])-?[\w.()]+)+", re.ASCII)
_OPERATORS = re.compile(r"(==|!=|<=|>=|->|=>|&&|\|\||[-+*/=<>×÷^≤≥≠≈±→])")


def read_word(word: str, before: Before, ahead: Ahead, *, code: bool = False) -> Reading | None:
    """How `word` is said, in plain characters; None when what follows it decides and is not there yet."""
    if _WORD.fullmatch(word) and not word.isupper() and not code and not {word, word.lower()} & _MARKED:
        return Reading(word, "")
    if _SMILEY.fullmatch(word):
        return Reading("", "")
    _lead, core, trail = _parts(word)
    # Only here does it matter whether a comma follows the stop.
    raw = re.sub(r"[\"')\]}]", "", trail)
    trail = _punctuation(trail)
    if not core:
        return Reading("", trail if trail != "'" else "")
    if code:
        return Reading(read_code(core), trail)
    short = read_short(core, raw, before, ahead)
    if isinstance(short, Reading):
        return replace(short, trail=_punctuation(short.trail))
    if short == "wait":
        return None
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


def speakable(text: str) -> str:
    """What no rule has put into words, in the characters that the voice knows."""
    if not _STRANGE.search(text):
        return text
    named = _STRANGE.sub(lambda m: f" {greek(m[0]) or (amount(m[0]) if m[0] in '0123456789' else '')} ", text)
    return " ".join(named.split())


def _parts(word: str) -> tuple[str, str, str]:
    match = _SPLIT.match(word)
    assert match is not None
    lead, core, trail = match.groups()
    # Brackets and a foot or inch mark that belong to what they stand beside.
    if lead == "(" and trail[:1] == ")" and re.fullmatch(r"\d{3}", core):
        return "", core + ")", trail[1:]
    if lead[:1] == "'" and re.fullmatch(r"\d0s", core):
        return "", core, trail
    if lead == "(" and re.fullmatch(r"\d{3}\)[-.]?\d{3}[-.]\d{4}", core):
        return "", core.replace(")", ")-").replace("--", "-"), trail
    return lead, core, trail


def _punctuation(trail: str) -> str:
    """What the voice knows of it: one mark, the strongest."""
    if "..." in trail:
        trail = trail.replace("...", ".")
    trail = trail.replace(".,", ",")
    for marks in ("?", "!", ".", ";", ":", ","):
        if marks in trail:
            return marks
    return ""


def _composed(core: str, trail: str, before: Before, ahead: Ahead) -> Reading | None:
    if core == ">" and before.word[:1].isupper() and len(before.word) > 1:
        # A way through menus: `File > Save As`.
        if ahead.first is None:
            return None
        if ahead.first.isupper():
            return Reading("-", "")
    if core in "→➜" and not before.word:
        return Reading("", trail)
    if (said := symbol(core)) is not None:
        return Reading(said, trail)
    if not any(c.isalnum() or greek(c) for c in core) and core not in _ALONE:
        return Reading(" ".join(symbol(c) or "" for c in core) if len(set(core)) > 1 else "", trail)
    if possessive := re.fullmatch(r"(.*[A-Z0-9.]|[A-Z]+&[A-Z]+)('s|s')", core):
        owner = read_word(possessive[1], before, Ahead("", True))
        return owner and Reading(f"{owner.text}'s", trail)
    if core in _ALONE:
        return Reading("-", "")
    if (letters := read_letters(core, trail, before, ahead)) is not None:
        return letters
    if len(core) == 1 and (name := greek(core)):
        return Reading(name, trail)
    if re.fullmatch(r"#\w*[A-Za-z]\w*", core):
        return Reading(f"hashtag {identifier(core[1:])}", trail)
    if re.fullmatch(r"@\w+", core):
        return Reading(f"at {identifier(core[1:])}", trail)
    if re.fullmatch(r"0x[0-9a-fA-F]+|#[0-9a-fA-F]{6}", core):
        return Reading(spell(core), trail)
    if re.search(r"—|--|…|\.\.\.|–(?=\D)", core):
        return _joined(re.split(r"—|-{2,}|–|…|\.{3}", core), ", ", trail, before, ahead)
    if half := re.fullmatch(r"(\d+/\d+)-([A-Za-z-]+)", core):
        return _joined([half[1], half[2]], " ", trail, before, ahead)
    if re.fullmatch(r"[^\W_][^/=]*(/[^\W_][^/=]*)+", core) and re.search(
        r"[A-Za-z]['.]?[A-Za-z]|[A-Z]/[A-Z]|[A-Z]\d", core
    ):
        # `TCP/IP` is one name, `red/green` two choices.
        shouted = all(len(piece) > 1 and piece in lexicon.SHOUTED for piece in core.split("/"))
        one = core.count("/") > 1 or core == "and/or" or (re.fullmatch(r"[A-Z]+/[A-Z]+", core) and not shouted)
        return _joined(core.split("/"), " " if one else " or ", trail, before, ahead)
    if re.fullmatch(r"[a-z]+(/[a-z]+)+", core):
        return _joined(core.split("/"), " or " if core.count("/") == 1 else " ", trail, before, ahead)
    if re.fullmatch(r"[A-Za-z]+[&+][A-Za-z]+", core):
        sign = "&" if "&" in core else "+"
        return _joined(core.split(sign), " and " if sign == "&" else " plus ", trail, before, ahead)
    if re.search(r"\d|^[a-z]\W", core) and _MATHS.fullmatch(core) and re.search(r"[+*/=<>×÷^≤≥≠≈±→]", core):
        return Reading(_operators(core), trail, Kind.NUMBER if core[-1].isdigit() else Kind.PLAIN)
    if "-" in core.strip("-") and re.fullmatch(r"[\w'.%$°]+(-[\w'.%$°]+)+", core):
        pieces = core.split("-")
        mixed = any((piece.isupper() and len(piece) > 1) or piece[:1].isdigit() for piece in pieces)
        return _joined(pieces, " " if mixed else "-", trail, before, ahead)
    if re.fullmatch(r"[A-Za-z]+[,;:!?][A-Za-z]+", core):
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


def _operators(core: str) -> str:
    said = []
    parts = [part for part in _OPERATORS.split(core) if part]
    for at, part in enumerate(parts):
        power = at and parts[at - 1] == "^"
        if part == "^" and parts[at + 1 : at + 2] in (["2"], ["3"]):
            continue
        if power and part in ("2", "3"):
            said.append("squared" if part == "2" else "cubed")
        elif part == "-":
            said.append("minus")
        elif part == "/":
            said.append("over" if re.search(r"[a-z]", core) else "divided by")
        else:
            said.append(symbol(part) or (amount(part) if re.fullmatch(r"\d+(\.\d+)?", part) else read_code(part)))
    return " ".join(said)


def read_code(text: str) -> str:
    """Names as words, signs by name where they matter, brackets and quotes left out. Ends as plain characters."""
    if spoken := read_address(text, "", Before(), Ahead("", True)):
        return spoken.text if isinstance(spoken, Reading) else text
    said = []
    for part in re.findall(
        r"\d[\d,]*(?:\.\d+)?|[A-Za-z_]\w*(?:'[a-z]+)?|--|==|!=|<=|>=|->|=>|&&|\|\||[^\w\s]", text, re.ASCII
    ):
        if part[0].isdigit():
            said.append(amount(part.rstrip(",")))
        elif part[0].isalpha() or part[0] == "_":
            said.append(identifier(part))
        elif part in (".", "-", "--"):
            said.append({".": "dot", "-": "dash", "--": "dash dash"}[part])
        elif name := (symbol(part) or greek(part) if part not in "_|" else None):
            said.append(name)
    return " ".join(" ".join(said).split())


_MARKED = (
    frozenset(lexicon.MONTH_NAMES)
    | frozenset(lexicon.BARE_SHORT)
    | frozenset(measures.UNITS)
    | frozenset(measures.CURRENCIES)
    | frozenset(measures.SCALES)
    | frozenset(lexicon.WEEKDAYS)
    | {"sq", "fl", "ave", "st", "rs"}
    | {"x", "am", "pm", "a", "i"}
) - {"a", "i"}
