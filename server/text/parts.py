"""A written word in parts: brackets and quotes, what is said, punctuation; and whether any rule is about it."""

from __future__ import annotations

import re

from sled_tts.server.text import lexicon, measures
from sled_tts.server.text.characters import greek
from sled_tts.server.text.numbers import amount

_SPLIT = re.compile(r"""^(["'(\[{]*)(.*?)([.,!?;:"')\]}…]*)$""", re.DOTALL)
_WORD = re.compile(r"[A-Za-z][a-z]*(?:'[a-z]+)?")
_STRANGE = re.compile(r"[^A-Za-z .,?!';:-]")
_MARKED = (
    frozenset(lexicon.MONTH_NAMES)
    | frozenset(lexicon.BARE_SHORT)
    | {"ms", "prof", "ext", "apt", "ste", "bldg", "rm", "exp", "ln", "pl", "ct", "ter", "cir"}
    | frozenset(measures.UNITS)
    | frozenset(measures.CURRENCIES)
    | frozenset(measures.SCALES)
    | frozenset(lexicon.WEEKDAYS)
    | {"sq", "fl", "ave", "st", "rs", "rd", "dr"}
    | {"x", "am", "pm", "a", "i"}
) - {"a", "i"}


def ordinary(word: str) -> bool:
    """Whether no rule is about it."""
    return bool(_WORD.fullmatch(word)) and not (word.isupper() or word in _MARKED or word.lower() in _MARKED)


def speakable(text: str) -> str:
    """What no rule has put into words, in the characters that the voice knows."""
    if not _STRANGE.search(text):
        return text
    named = _STRANGE.sub(lambda m: f" {greek(m[0]) or (amount(m[0]) if m[0] in '0123456789' else '')} ", text)
    return " ".join(named.split())


def parted(word: str) -> tuple[str, str, str]:
    """What leads, the core, what trails."""
    match = _SPLIT.match(word)
    assert match is not None
    lead, core, trail = match.groups()
    # Brackets and a foot or inch mark that belong to what they stand beside.
    if lead == "(" and trail[:1] == ")" and re.fullmatch(r"\d{3}", core):
        return "", core + ")", trail[1:]
    if lead[:1] == "'" and re.fullmatch(r"\d0s", core):
        return "", core, trail
    if lead[-1:] == "'" and re.fullmatch(r"\d\d", core) and "'" not in trail:
        return "", f"'{core}", trail
    if lead == "(" and re.fullmatch(r"\d{3}\)[-.]?\d{3}[-.]\d{4}", core):
        return "", core.replace(")", ")-").replace("--", "-"), trail
    return lead, core, trail
