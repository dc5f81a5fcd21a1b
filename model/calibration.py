"""What brings a voice that a network imitates nearer to its recording: where its melody lies, what gives its sound the
resonances and the loudness of the recording, and how much of the recording it goes on from.

The latents stay as they are written: bringing their mean and covariance to the recording's made voices hardly more
alike once the sound was, and cost words (docs/decisions/0017-one-pitch-for-recordings.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

import numpy as np
import numpy.typing as npt

from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.register import LEAST_HZ, MOST_HZ

Float32 = npt.NDArray[np.float32]

# Of how a calibration is found; what is kept of another method is found anew.
METHOD = "sound-opening-12"


@dataclass(frozen=True)
class Opening:
    """The first `frames` of a recording's latents, which say the first `letters` characters of its transcript."""

    frames: int
    letters: int

    def __post_init__(self) -> None:
        if self.frames < 1 or self.letters < 1:
            raise ValueError(f"an opening must have frames and letters, got {self.frames} and {self.letters}")


@dataclass(frozen=True)
class Calibration:
    """`opening`: what of the recording is the prompt, None for all of it. Where the checkpoint has a melody, `hz` is
    where it must lie to be heard at the recording's pitch, and `dynamics` what becomes of the sound after that."""

    opening: Opening | None = None
    hz: float | None = None
    dynamics: Dynamics | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.hz is not None and not LEAST_HZ <= self.hz <= MOST_HZ:
            raise ValueError(f"hz of a calibration must be in [20, 1000], got {self.hz}")

    def arrays(self) -> dict[str, Float32]:
        """What is kept of it, two dimensions each."""
        kept = {} if self.dynamics is None else self.dynamics.arrays()
        if self.opening is not None:
            kept["opening"] = np.array([astuple(self.opening)], dtype=np.float32)
        if self.hz is not None:
            kept["hz"] = np.array([[self.hz]], dtype=np.float32)
        return kept

    @classmethod
    def of(cls, arrays: Mapping[str, Float32]) -> Calibration:
        """The inverse. Raises ValueError for anything else."""
        return cls(_opening(arrays.get("opening")), _hz(arrays.get("hz")), Dynamics.of(arrays))


def _hz(value: Float32 | None) -> float | None:
    if value is None:
        return None
    if value.shape != (1, 1):
        raise ValueError(f"hz of a calibration must be one number, got {value.tolist()}")
    return float(value[0, 0])


def _opening(values: Float32 | None) -> Opening | None:
    if values is None:
        return None
    if values.shape != (1, 2) or not np.array_equal(values, values.round()):
        raise ValueError(f"the opening of a calibration must be two whole numbers, got {values.tolist()}")
    return Opening(int(values[0, 0]), int(values[0, 1]))
