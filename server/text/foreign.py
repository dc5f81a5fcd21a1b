"""Letters that this model does not speak: taken out of words, and told about once their run has ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sled_tts.server.text.characters import script
from sled_tts.server.text.spoken import Skipped

_SAMPLE = 20
# Letters that are symbols: micro, the same as a Greek letter, ohm.
_SYMBOLS = "µμΩ"


@dataclass
class ForeignLetters:
    """`kept`: they are handed on as they are."""

    kept: bool
    _skipped: Skipped | None = field(default=None, init=False)

    def take(self) -> Iterator[Skipped]:
        """What has been left out since the last call, as one run."""
        if self._skipped is not None:
            yield self._skipped
            self._skipped = None

    def without(self, word: str, begin: int) -> str:
        """A word whose first character is the text's `begin`-th, spaces in their place; a single Greek letter has a
        name and stays."""
        if word.isascii() or self.kept:
            return word
        left = []
        for at, c in enumerate(word):
            name = _script(word, at)
            if name is None:
                left.append(c)
                continue
            left.append(" ")
            before, place = self._skipped, begin + at
            if before is None:
                self._skipped = Skipped(name, c, place, place + 1)
            else:
                self._skipped = Skipped(before.script, (before.sample + c)[:_SAMPLE], before.begin, place + 1)
        return "".join(left)


def _script(word: str, at: int) -> str | None:
    """The script of a letter that is not spoken; None for one that is."""
    if not _greek(word[at]):
        return script(word[at])
    before, after = word[at - 1 : at], word[at + 1 : at + 2]
    alone = not (before and (script(before) or _greek(before))) and not (after and _greek(after))
    return script(word[at]) if alone or word[at] in _SYMBOLS else "greek"


def _greek(character: str) -> bool:
    return "\u0370" <= character <= "\u03ff"
