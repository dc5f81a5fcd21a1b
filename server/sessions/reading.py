"""What an utterance does with written text before it is cut into segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from sled_tts.server.engine.request import TextSkipped
from sled_tts.server.errors import UnsupportedError
from sled_tts.server.text.normaliser import Normaliser
from sled_tts.server.text.spoken import Skipped, Spoken

# An endless text in a foreign language must not become an endless list of warnings.
_MOST_WARNINGS = 32


class UnsupportedText(StrEnum):
    """What is done with letters of a script that is not spoken: refused, skipped with a warning, or tried."""

    ERROR = "error"
    WARN = "warn"
    PASS = "pass"  # noqa: S105


@dataclass
class Reader:
    """Text as sent to text as spoken. `skipped` collects what has been left out since it was last taken."""

    policy: UnsupportedText = UnsupportedText.WARN
    skipped: list[TextSkipped] = field(default_factory=list, init=False)
    anything_skipped: TextSkipped | None = field(default=None, init=False)
    _warned: int = field(default=0, init=False)
    _normaliser: Normaliser = field(init=False)

    def __post_init__(self) -> None:
        self._normaliser = Normaliser(foreign=self.policy is UnsupportedText.PASS)

    def feed(self, text: str) -> Iterator[Spoken]:
        """Raises UnsupportedError where the policy is to refuse, TokenizerError for text that is not Unicode."""
        return self._sorted(self._normaliser.feed(text))

    def flush(self) -> Iterator[Spoken]:
        """All that was held. Raises UnsupportedError."""
        return self._sorted(self._normaliser.flush())

    def nothing_said(self) -> UnsupportedError | None:
        """Why there is nothing to say, if that is because all of it was skipped."""
        return None if self.anything_skipped is None else _refusal(self.anything_skipped)

    def _sorted(self, pieces: Iterable[Spoken | Skipped]) -> Iterator[Spoken]:
        for piece in pieces:
            if isinstance(piece, Spoken):
                yield piece
                continue
            event = TextSkipped(piece.script, piece.sample, piece.begin, piece.end)
            self.anything_skipped = self.anything_skipped or event
            if self.policy is UnsupportedText.ERROR:
                raise _refusal(event)
            self._warned += 1
            if self._warned <= _MOST_WARNINGS:
                self.skipped.append(event)


def _refusal(event: TextSkipped) -> UnsupportedError:
    return UnsupportedError(
        f"characters {event.begin} to {event.end} ({event.sample!r}) are {event.script}: this voice does not speak it",
        code="unsupported_text",
        param="text",
    )
