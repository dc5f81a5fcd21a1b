"""Brackets in a sentence: heard as a pause on either side."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sled_tts.server.text.context import Before, Kind

_OPENS = re.compile(r"\((?![A-Za-z]\)|\d{1,2}\))")
_NUMBERED = re.compile(r"\((?:\d{1,2}|[a-z])\)")


@dataclass
class Asides:
    """Whether a bracket is open before which a pause was made, or has been closed since the last word."""

    _open: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)

    def end_line(self) -> None:
        self._open = self._closed = False

    def around(self, written: str, trail: str, kind: Kind, before: Before, last: str) -> tuple[str, str]:
        """What is said before a word because of brackets, and the mark after it, `trail` if it has one.

        `last` is the last character that was said: where that is a mark there is a pause already.
        """
        opens = bool(_OPENS.match(written)) and not before.starts and kind is not Kind.PHONE
        lead = ", " if last.isalnum() and (opens or self._closed) else ""
        self._open = (self._open or bool(opens and lead)) and trail not in (".", "!", "?")
        self._closed = self._open and ")" in written
        self._open = self._open and not self._closed
        if _NUMBERED.fullmatch(written) and not trail:
            # `(1) one thing, and (2) another`; not `Eq. (3)`, `f (x)`, `section 5 (a)`.
            item = before.starts or not last.isalnum() or before.lower in ("and", "or")
            item = item or (written[1].isalpha() and len(before.word) > 1 and before.kind is not Kind.NUMBER)
            return lead, "," if item else ""
        return lead, trail
