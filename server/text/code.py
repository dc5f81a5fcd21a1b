"""Code and formulas written without marks: names as words, signs by name."""

from __future__ import annotations

import re

from sled_tts.server.text.characters import greek, symbol
from sled_tts.server.text.context import Ahead, Before, Reading
from sled_tts.server.text.letters import identifier
from sled_tts.server.text.numbers import amount
from sled_tts.server.text.quantities import read_quantity
from sled_tts.server.text.web import read_address

MATHS = re.compile(r"(?:-?[\w.]+)(?:(?:==|!=|<=|>=|[-+*/=<>×÷^≤≥≠≈±→])-?[\w.()]+)+", re.ASCII)
_NUMBER = re.compile(r"[\d.,]+(?:[eE][-+]?\d+)?")
_OPERATORS = re.compile(r"(==|!=|<=|>=|->|=>|&&|\|\||(?<!\d[eE])[-+]|[*/=<>×÷^≤≥≠≈±→])")


def operators(core: str) -> str:
    """`2+2=4`, `x^2`: what `MATHS` matches."""
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
            number = read_quantity(part, "", Before(), Ahead("", True)) if _NUMBER.fullmatch(part) else None
            said.append(symbol(part) or (number.text if isinstance(number, Reading) else read_code(part)))
    return " ".join(said)


def read_code(text: str) -> str:
    """Names as words, signs by name where they matter, brackets and quotes left out. Ends as plain characters."""
    if spoken := read_address(text, "", Before(), Ahead("", True)):
        return spoken.text if isinstance(spoken, Reading) else text
    text = re.sub(r"\^([23])(?!\d)", lambda m: " squared " if m[1] == "2" else " cubed ", text)
    said = []
    for part in re.findall(
        r"\d[\d,]*(?:\.\d+)*|[A-Za-z_]\w*(?:'[a-z]+)?|--|[!=]?==|!=|<=|>=|->|=>|&&|\|\||[^\w\s]", text, re.ASCII
    ):
        if part[0].isdigit():
            version = part.count(".") > 1
            said.append(" point ".join(amount(n) for n in part.split(".")) if version else amount(part.rstrip(",")))
        elif part[0].isalpha() or part[0] == "_":
            said.append(identifier(part))
        elif part in (".", "-", "--", "~", "$"):
            said.append({".": "dot", "-": "dash", "--": "dash dash", "~": "tilde", "$": "dollar"}[part])
        elif name := (symbol(part) or greek(part) if part not in "_|" else None):
            said.append(name)
    return " ".join(" ".join(said).split())
