"""Where a voice's pitch lies, and how far it moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sled_tts.model.errors import ModelError

# Octaves about the median beyond which a pitch is a tracker's mistake.
MOST_OCTAVES = 0.8
_SPREADS = (0.08, 0.35)
# Of a normal distribution: from the tenth part to the ninth, in standard deviations.
_TENTHS = 2.563
LEAST_VOICED = 20
_MOST_OFF = 1.25
LEAST_HZ, MOST_HZ = 20.0, 1000.0


@dataclass(frozen=True)
class Register:
    """`hz`: a voice's median pitch. `spread`: a standard deviation about it, octaves. `locked_hz`: the constant pitch
    at which a network knows the voice; None for the nearest it knows."""

    hz: float
    spread: float
    locked_hz: float | None = None

    def __post_init__(self) -> None:
        if not LEAST_HZ <= self.hz <= MOST_HZ:
            raise ValueError(f"hz of a register must be in [20, 1000], got {self.hz}")
        if not 0.0 <= self.spread <= 1.0:
            raise ValueError(f"spread of a register must be in [0, 1] octaves, got {self.spread}")
        if self.locked_hz is not None and not LEAST_HZ <= self.locked_hz <= MOST_HZ:
            raise ValueError(f"locked_hz of a register must be in [20, 1000], got {self.locked_hz}")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Register:
        """`hz`, `spread` and perhaps `locked_hz`. Raises ValueError for anything else, TypeError for no numbers."""
        if not {"hz", "spread"} <= set(data) <= {"hz", "spread", "locked_hz"}:
            raise ValueError(f"a register has hz, spread and locked_hz, not {sorted(data)}")
        locked = data.get("locked_hz")
        return cls(float(data["hz"]), float(data["spread"]), None if locked is None else float(locked))

    def to_dict(self) -> dict[str, float]:
        """What `from_dict` takes."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def nearest_pitch(hz: float, choices: Iterable[float]) -> float:
    """The choice nearest to a speaker's pitch, by ratio."""
    return min(choices, key=lambda choice: abs(np.log(choice / hz)))


def octaves(track: npt.NDArray[np.floating[Any]], hz: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """A pitch track in Hz (0 where unvoiced) as octaves above `hz`, and where it can be believed."""
    voiced = track > 0
    above = np.log2(np.where(voiced, track, hz) / hz)
    return above, voiced & (np.abs(above) < MOST_OCTAVES)


def corrected(wanted: Register, said: Register) -> Register:
    """Where a melody must lie to come out at `wanted`, when what was to lie there has been heard at `said`; by a
    quarter at most."""
    return replace(wanted, hz=wanted.hz * min(max(wanted.hz / said.hz, 1 / _MOST_OFF), _MOST_OFF))


def measure(track: npt.NDArray[np.floating[Any]]) -> Register:
    """The register of a voice with the pitches `track [N]` in Hz, 0 where unvoiced; ModelError with fewer than
    `LEAST_VOICED` that are not."""
    voiced = track[track > 0]
    if len(voiced) < LEAST_VOICED:
        raise ModelError("almost no voiced speech")
    hz = float(np.median(voiced))
    above, sure = octaves(track, hz)
    low, high = np.quantile(above[sure], (0.1, 0.9))
    return Register(round(hz, 1), round(float(np.clip((high - low) / _TENTHS, *_SPREADS)), 3))
