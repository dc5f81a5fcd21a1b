"""What a voice sounds like at the moments at which it says what a recording says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sled_tts.model.melody.dynamics import STEPS_A_WINDOW
from sled_tts.model.melody.likening import WINDOW, sound_levels
from sled_tts.model.time_warping import Float32, Sounding, pairs

_STEP = WINDOW // STEPS_A_WINDOW


def paired_levels(said: Sequence[Float32], recorded: Float32, rate: int) -> tuple[Float32, Float32]:
    """`said`: sounds `[N]` of a transcript's pieces, in order; `recorded [M]`: a reading of it. Their levels as
    `sound_levels` has them, `[P, B]` each, wherever they correspond. ValueError when almost nothing sounds."""
    heard = [wave for wave in said if len(wave) > rate // 10]
    parts = [Sounding.of(wave, rate) for wave in heard]
    reading = Sounding.of(recorded, rate)
    path = pairs(Sounding.one_after_another(parts), reading)
    ours = np.concatenate([_at(part, sound_levels([wave]), rate) for part, wave in zip(parts, heard, strict=True)])
    theirs = _at(reading, sound_levels([recorded]), rate)
    return ours[path[:, 0]], theirs[path[:, 1]]


def _at(sounding: Sounding, loud: Float32, rate: int) -> Float32:
    """The levels of the windows around the steps that sound."""
    middle = np.round((sounding.seconds * rate - WINDOW / 2) / _STEP).astype(np.int_)
    chosen: npt.NDArray[np.int_] = np.clip(middle, 0, len(loud) - 1)
    return loud[chosen]
