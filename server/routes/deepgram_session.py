"""Deepgram's text buffer without I/O: which turns there are, which one is spoken, and what a flush waits for.

A turn is the text up to a `Flush`. Turns are spoken one after another, each as an utterance of its own, so that a
connection between turns holds no slot.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sled_tts.server.errors import InputTooLongError, ProtocolError


@dataclass
class Turn:
    """`texts` are those that no utterance has taken yet; `ended` once it has been flushed."""

    texts: deque[str] = field(default_factory=deque)
    chars: int = 0
    ended: bool = False
    answered: bool = True

    def take(self) -> list[str]:
        """Everything not taken before."""
        texts = list(self.texts)
        self.texts.clear()
        return texts


@dataclass
class TurnQueue:
    """`current` is the turn that is spoken or next to be; `sequence_id` numbers `Flushed` and `Cleared` from 0."""

    max_chars: int
    turns: deque[Turn] = field(default_factory=deque, init=False)
    closing: bool = field(default=False, init=False)
    _sequence: int = field(default=0, init=False)

    @property
    def current(self) -> Turn | None:
        return self.turns[0] if self.turns else None

    @property
    def open(self) -> Turn | None:
        """The turn that more text belongs to."""
        return self.turns[-1] if self.turns and not self.turns[-1].ended else None

    @property
    def over(self) -> bool:
        """Whether the connection was asked to close and everything has been spoken."""
        return self.closing and not self.turns

    def speak(self, text: str) -> None:
        """More text. Raises InputTooLongError, or ProtocolError after `close`."""
        if self.closing:
            raise ProtocolError("Speak after Close", param="type")
        turn = self.open
        if turn is None:
            turn = Turn()
            self.turns.append(turn)
        turn.chars += len(text)
        if turn.chars > self.max_chars:
            raise InputTooLongError(f"at most {self.max_chars} characters before a Flush", param="text")
        turn.texts.append(text)

    def flush(self) -> None:
        """The open turn ends; without one there is an empty turn, since every flush is answered."""
        if self.closing:
            raise ProtocolError("Flush after Close", param="type")
        turn = self.open
        if turn is None:
            self.turns.append(Turn(ended=True))
        else:
            turn.ended = True

    def clear(self) -> int:
        """Everything unspoken is forgotten, its flushes too; the number of the answer."""
        self.turns.clear()
        return self._number()

    def close(self) -> None:
        """No more turns; the open one is spoken to its end, without an answer: nobody flushed it."""
        self.closing = True
        if self.open is not None:
            self.open.answered, self.open.ended = False, True

    def spoken(self) -> int | None:
        """The current turn is over: the number of its `Flushed`, None when it has none."""
        turn = self.turns.popleft()
        return self._number() if turn.ended and turn.answered else None

    def _number(self) -> int:
        self._sequence += 1
        return self._sequence - 1
