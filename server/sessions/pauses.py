"""The pause after a segment. A voice that was trained on one sentence at a time makes none at its end: said one after
another they would run into each other, within a stream and where a client asks for each by itself."""

from __future__ import annotations

from dataclasses import dataclass

from sled_tts.server.sessions.feed import Segment
from sled_tts.server.sessions.marks import closes_sentence, ends_clause


@dataclass(frozen=True)
class Pauses:
    """Seconds of silence after a segment whose text ends a sentence, or a clause; 0 for none."""

    sentence_s: float = 0.0
    clause_s: float = 0.0

    @classmethod
    def of_sentences(cls, seconds: float) -> Pauses:
        """A clause has half of it."""
        return cls(seconds, seconds / 2)

    def after(self, segment: Segment) -> float:
        """Seconds; none where words are not known, because tokens were sent instead of text."""
        if not segment.worded or not segment.words:
            return 0.0
        last = segment.closing
        return self.sentence_s if closes_sentence(last) else self.clause_s if ends_clause(last) else 0.0
