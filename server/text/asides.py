"""Brackets in a sentence: heard as a pause on either side."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sled_tts.server.text.context import Before, Kind

_OPENS = re.compile(r"\((?![A-Za-z]\)|\d{1,2}\))")
_NUMBERED = re.compile(r"\((?:\d{1,2}|[a-z])\)")


@dataclass
class Asides:
    """Whether a bracket is open before which a pause was made."""

    _open: bool = field(default=False, init=False)

    def end_line(self) -> None:
        self._open = False

    def around(self, written: str, trail: str, kind: Kind, before: Before, last: str) -> tuple[str, str]:
        """What is said before a word because of its bracket, and the mark after it, `trail` if it has one.

        `last` is the last character that was said: where that is a mark there is a pause already.
        """
        if trail in (".", "!", "?"):
            self._open = False
        if _NUMBERED.fullmatch(written) and not trail:
            # `(1) one thing, and (2) another`.
            item = before.starts or not last.isalnum() or before.lower in ("and", "or")
            return "", "," if item else ""
        closes = self._open and ")" in written
        lead = ""
        if _OPENS.match(written) and last.isalnum() and not before.starts and kind is not Kind.PHONE:
            lead, self._open = "- ", True
            closes = ")" in written
        if closes:
            self._open = False
        return lead, trail or ("," if closes else "")
