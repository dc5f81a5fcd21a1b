"""Words that announce a number which is read sign by sign, and how far they reach: `order number is`, `call us at`."""

from __future__ import annotations

import re
from enum import Enum, auto

from sled_tts.server.text import lexicon


class Label(Enum):
    """What has been announced: nothing, what has a number of its own (`order`), a code, a telephone number."""

    NONE = auto()
    NAMED = auto()
    CODE = auto()
    PHONE = auto()


def labelled(word: str, label: Label, code: bool) -> Label:
    """What is announced once `word` has been said after `label`; `code`: it was part of a code itself."""
    lower = word.lower()
    if lower in lexicon.CODED:
        return Label.CODE
    if lower in lexicon.NUMBERED:
        return Label.NAMED
    if lower in lexicon.CALLED and label in (Label.NONE, Label.PHONE):
        return Label.PHONE
    if label is Label.PHONE:
        # `text HELP to 741741`.
        return label if lower in lexicon.CALLED_LINKS or re.fullmatch(r"[A-Z]{3,}|[*#\d-]+", word) else Label.NONE
    if label is Label.NONE:
        return label
    if lower in lexicon.NUMBER_WORDS:
        return Label.CODE
    # The letters in a code of several groups: `IBAN GB29 NWBK 6016`.
    lettered = label is Label.CODE and re.fullmatch("[A-Z]{1,4}", word)
    return label if code or lettered or lower in lexicon.CODED_LINKS else Label.NONE
