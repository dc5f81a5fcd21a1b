"""A transcript in pieces, as a checkpoint says it itself to find it in a recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise


def word_ends(text: str) -> list[int]:
    """Where each word ends, in characters."""
    return [match.end() for match in re.finditer(r"\S+", text)]


def pieces(text: str, borders: Sequence[int]) -> list[str]:
    """What is before, between and after `borders`, which count words and rise, from 1 to one less than there are."""
    ends = [0, *word_ends(text)]
    return [text[ends[first] : ends[after]].strip() for first, after in pairwise([0, *borders, len(ends) - 1])]
