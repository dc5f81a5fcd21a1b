"""How long an utterance may become: by construction, nothing runs away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameBudget:
    """Default bound on new frames from the length of the text.

    English speech takes about 0.25 s a subword; `seconds_per_token` leaves room for slow voices and long pauses,
    `constant_s` for short texts.
    """

    frame_rate: float
    seconds_per_token: float = 0.9
    constant_s: float = 3.0

    def frames(self, tokens: int) -> int:
        """Most new frames for a text of `tokens` tokens."""
        return max(1, round((self.constant_s + self.seconds_per_token * tokens) * self.frame_rate))
