"""What punctuation says about a text: where sentences and clauses end. Pure text."""

from __future__ import annotations

SENTENCE_ENDS = ".!?…。！？"
FULL_WIDTH_ENDS = "。！？"
CLAUSE_ENDS = ",;:—–、，；："
_CLOSING = "\"')]}”’»"
_OPENING = "\"'([{“‘«"
_ABBREVIATIONS = frozenset(
    (
        "mr.",
        "mrs.",
        "ms.",
        "dr.",
        "prof.",
        "st.",
        "vs.",
        "e.g.",
        "i.e.",
        "jr.",
        "sr.",
        "mt.",
        "capt.",
        "gen.",
        "rev.",
    )
)


def ends_sentence(word: str) -> bool:
    """Whether a sentence ends with this word and its marks. `Dr.` and initials such as `J.` end none; `I.` hardly ever
    does either."""
    return closes_sentence(word) and not _is_initial(word.rstrip(_CLOSING))


def closes_sentence(word: str) -> bool:
    """The same of a word that a text was ended after: there, `5 p.m.` and `plan B.` are more than initials."""
    bare = word.rstrip(_CLOSING)
    return bare[-1:] in tuple(SENTENCE_ENDS) and bare.lstrip(_OPENING).lower() not in _ABBREVIATIONS


def ends_clause(word: str) -> bool:
    """Whether a clause ends with this word and its marks, but no sentence."""
    return word.rstrip(_CLOSING)[-1:] in tuple(CLAUSE_ENDS)


def ends_phrase(word: str) -> bool:
    """Whether a voice may pause after this word: a clause or a sentence ends, or it is an abbreviation."""
    return word.rstrip(_CLOSING)[-1:] in tuple(SENTENCE_ENDS + CLAUSE_ENDS)


def _is_initial(word: str) -> bool:
    bare = word.lstrip(_OPENING)
    return len(bare) == 2 and bare[0].isupper() and bare[1] == "."
