"""Where one utterance is cut into segments: at sentence ends, else clauses, else words. Pure text, no clock.

Cuts depend on the characters alone, never on how they were cut into deltas, and a character once handed on is
never taken back, so text can stream while it is being split.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sled_tts.server.sessions.marks import FULL_WIDTH_ENDS, ends_clause, ends_sentence


@dataclass(frozen=True)
class SplitPlan:
    """Lengths in characters from which a segment may end at a sentence, a clause, a word; `limit` ends it anyway."""

    sentence_at: int
    clause_at: int
    word_at: int
    limit: int

    @classmethod
    def trained_on(cls, characters: int) -> SplitPlan:
        """For a network that has only ever said segments of at most `characters`."""
        return cls.fractions(characters, 0.3, 0.6, 0.85)

    @classmethod
    def bounded_by(cls, characters: int) -> SplitPlan:
        """For a network whose positions end after about `characters`: cut as late as is safe."""
        return cls.fractions(characters, 0.6, 0.75, 0.9)

    @classmethod
    def by_sentence(cls, characters: int) -> SplitPlan:
        """Every sentence on its own."""
        return cls.fractions(characters, 0.0, 0.6, 0.85)

    @classmethod
    def fractions(cls, limit: int, sentence: float, clause: float, word: float) -> SplitPlan:
        if limit < 8:
            raise ValueError(f"segments need at least 8 characters, got {limit}")
        return cls(round(sentence * limit), round(clause * limit), round(word * limit), limit)


@dataclass(frozen=True)
class Piece:
    """Text to hand on; `ends` closes the segment after it."""

    text: str
    ends: bool


@dataclass
class Splitter:
    """Feeds text through a plan. Runs of white space become one space; segments neither begin nor end with one."""

    plan: SplitPlan
    _length: int = field(default=0, init=False)
    _word: str = field(default="", init=False)
    _spaced: bool = field(default=False, init=False)
    _speakable: bool = field(default=False, init=False)

    def feed(self, text: str) -> list[Piece]:
        """Pieces of the current segment and of those that follow it."""
        pieces: list[Piece] = []
        out: list[str] = []
        for character in text:
            if character.isspace():
                # The space alone must not fill the segment up: what came after it would be one too many.
                full = self._length + 1 >= self.plan.limit
                cut = self._length > 0 and not self._spaced and (full or self._may_end())
                if self._length and not self._spaced and not cut:
                    out.append(" ")
                    self._spaced = True
                    self._length += 1
                self._word = ""
            else:
                out.append(character)
                self._length += 1
                self._spaced = False
                self._word += character
                self._speakable = self._speakable or character.isalnum()
                full_width = character in FULL_WIDTH_ENDS and self._speakable and self._length >= self.plan.sentence_at
                cut = full_width or self._length >= self.plan.limit
            if cut:
                pieces.append(Piece("".join(out), True))
                out.clear()
                self.restart()
        if out:
            pieces.append(Piece("".join(out), False))
        return pieces

    def follow(self, characters: int) -> bool:
        """Count speakable text that reached the segment another way; True when it has to end."""
        self._length += characters
        self._word, self._spaced, self._speakable = "", False, True
        return self._length >= self.plan.limit

    def restart(self) -> None:
        """Whatever comes next opens a new segment."""
        self._length, self._word, self._spaced, self._speakable = 0, "", False, False

    @property
    def speakable(self) -> bool:
        """Whether the current segment holds a letter or digit."""
        return self._speakable

    def _may_end(self) -> bool:
        """Whether the segment may end after the word that has just ended."""
        if not self._speakable:
            return False
        if ends_sentence(self._word):
            return self._length >= self.plan.sentence_at
        if ends_clause(self._word):
            return self._length >= self.plan.clause_at
        return self._length >= self.plan.word_at
