"""Which token is being said: the likeliest monotone way through where the network looked, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

# How likely the next frame is at the same token, at the next one, at the one after that, ... Loose on purpose: looks
# are sharp, and a sluggish path would know a word only some frames after its beginning.
_ADVANCE = np.log(np.array([0.3, 0.4, 0.2, 0.1]))
# What any token is believed to get, however the network looks: one frame's glance elsewhere decides nothing.
_FLOOR = 0.03
_NEVER = -1e9


@dataclass
class TextPath:
    """A Viterbi search that grows with every look; it keeps a byte for each frame and token.

    The first frame may be at any of the tokens 0 to `opens`.
    """

    opens: int = 0
    _score: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    _steps: list[npt.NDArray[np.int8]] = field(default_factory=list, init=False, repr=False)

    @property
    def frames(self) -> int:
        return len(self._steps)

    @property
    def at(self) -> int:
        """The token of the last frame as far as is known now; -1 before any."""
        return int(self._score.argmax()) if len(self._score) else -1

    def see(self, look: npt.NDArray[np.float32]) -> None:
        """`look [T]`: the weights of the tokens read so far, for the next frame; T never shrinks."""
        tokens, first = len(look), not self._steps
        before = np.full(tokens, _NEVER)
        if first:
            before[: self.opens + 1] = 0.0
            moved = before[None]
        else:
            before[: len(self._score)] = self._score
            moved = np.full((len(_ADVANCE), tokens), _NEVER)
            for step, likely in enumerate(_ADVANCE[:tokens]):
                moved[step, step:] = before[: tokens - step] + likely
        best = moved.argmax(axis=0)
        score = moved[best, np.arange(tokens)] + np.log(look + _FLOOR)
        self._score = score - score.max()
        self._steps.append(best.astype(np.int8))

    def reached(self, token: int) -> int | None:
        """The first frame of the present path at `token` or after it; None when it is not there yet."""
        here = self.at
        if not self._steps or here < token:
            return None
        for frame in range(len(self._steps) - 1, 0, -1):
            before = here - int(self._steps[frame][here])
            if before < token:
                return frame
            here = before
        return 0
