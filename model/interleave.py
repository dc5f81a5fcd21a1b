"""The n:m order of text and speech, as a pure cursor: no tensors, no clock.

Turn k reads tokens `[n*k, n*k + n)` (`<s>` counts), then writes m frames; the next forward pass is
`[last frame, next n tokens]`. The turn that reads the last token writes until the stop head fires.
Offline synthesis is the special case of one turn that reads everything (`n=None`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Action(Enum):
    """What a stream can do next."""

    READ = auto()
    WRITE = auto()
    NEED_TEXT = auto()


@dataclass
class TurnCursor:
    """Position of one stream in the interleaved order.

    `n`, `m` are None for offline: everything is read before anything is written.
    """

    n: int | None
    m: int | None
    available: int = 0
    consumed: int = 0
    written_in_turn: int = 0
    text_ended: bool = False
    in_turn: bool = False

    def feed(self, tokens: int) -> None:
        """Announce that `tokens` more text tokens are there. Raises ValueError after `end_text`."""
        if self.text_ended and tokens:
            raise ValueError("text was fed after its end")
        self.available += tokens

    def end_text(self) -> None:
        """No more text will come."""
        self.text_ended = True

    @property
    def unread(self) -> int:
        return self.available - self.consumed

    @property
    def final_turn(self) -> bool:
        """The current turn has read the last token, so it writes until stop."""
        return self.in_turn and self.text_ended and self.unread == 0

    def next_action(self) -> Action:
        """READ when a turn may start, WRITE inside a turn, NEED_TEXT when starved.

        Whether a turn's last frame was the last of the text is only known once the text has ended or
        another token is there; until then a full turn waits rather than guess.
        """
        if self.in_turn and (self.final_turn or self.m is None or self.written_in_turn < self.m):
            return Action.WRITE
        if self.text_ended:
            return Action.READ if self.unread else Action.WRITE
        if self.n is not None and self.unread >= self.n:
            return Action.READ
        return Action.NEED_TEXT

    def read(self) -> range:
        """Start a turn; returns the token indices it reads."""
        if self.next_action() is not Action.READ:
            raise ValueError("nothing may be read now")
        count = self.unread if self.n is None else min(self.n, self.unread)
        span = range(self.consumed, self.consumed + count)
        self.consumed += count
        self.written_in_turn = 0
        self.in_turn = True
        return span

    def wrote(self) -> None:
        """One frame of the current turn was written."""
        self.written_in_turn += 1


def training_layout(tokens: int, frames: int, n: int, m: int) -> list[bool]:
    """True for text, False for speech, one entry per position of a training sequence.

    `min(tokens // n, frames // m)` full cycles, then the next n tokens, all remaining speech and the
    remaining text (reference behaviour).
    """
    cycles = min(tokens // n, frames // m)
    order = ([True] * n + [False] * m) * cycles
    left = tokens - cycles * n
    head = min(n, left)
    return order + [True] * head + [False] * (frames - cycles * m) + [True] * (left - head)


def prompt_block(tokens: int, frames: int, n: int, m: int) -> list[tuple[bool, int]]:
    """A speech prompt of a streaming model as a fixed prefix: (is text, index) per position.

    Its text and frames in the n:m order; after it the turns start afresh, so it does not depend on what is to be
    said, and may be computed once for a voice.
    """
    counts = {True: 0, False: 0}
    order = []
    for is_text in training_layout(tokens, frames, n, m):
        order.append((is_text, counts[is_text]))
        counts[is_text] += 1
    return order
