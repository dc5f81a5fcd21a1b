"""What brings a voice that a network imitates nearer to its recording: a linear map of the latents it writes, what
gives their sound the loudness of the recording, and how much of the recording it goes on from.

A small network leans towards the voices that it was trained on most. Mean and covariance of its latents over some
sentences show by how much; undone before the codec's decoder, the rest of the voice follows. What the network reads
back stays its own: corrected feedback made words worse (docs/decisions/0011-calibrated-voices.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field

import numpy as np
import numpy.typing as npt

from sled_tts.model.errors import ModelError
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.envelope import Envelope

Float32 = npt.NDArray[np.float32]
_Float64 = npt.NDArray[np.float64]

# Of how a calibration is found; what is kept of another method is found anew.
METHOD = "transport-envelope-opening"

# Frames this much quieter than the mean say nothing about a voice.
_QUIETEST = 0.03
# Fewer frames say more about the words than about the voice.
LEAST_FRAMES = 50
# Of the recording's mean variance: what is added in every direction, so that few frames invent no directions.
_RIDGE = 0.05
_STRETCH = (0.4, 2.5)
# How far towards the recording's covariance: the rest of the way costs more words than it brings likeness.
_SHARE = 0.5


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
    """Codec latents `[S, D]` of a voice become `latents @ turn.T + shift`: `turn [D, D]`, `shift [D]`, fp32.
    Where the checkpoint has a melody, `hz` is where it must lie to be heard at the recording's pitch, and `dynamics`
    what becomes of the sound after that. `opening`: what of the recording is the prompt, None for all of it."""

    turn: Float32 = field(repr=False)
    shift: Float32 = field(repr=False)
    dynamics: Dynamics | None = field(default=None, repr=False)
    opening: Opening | None = None
    hz: float | None = None

    def __post_init__(self) -> None:
        size = self.shift.size
        for name, shape in (("turn", (size, size)), ("shift", (size,))):
            value = getattr(self, name)
            if value.dtype != np.float32 or value.shape != shape:
                raise ValueError(f"{name} of a calibration must be float32 {shape}, got {value.dtype} {value.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} of a calibration is not finite")
        if self.hz is not None and not 20.0 <= self.hz <= 1000.0:
            raise ValueError(f"hz of a calibration must be in [20, 1000], got {self.hz}")

    def stacked(self) -> Float32:
        """The rows of `turn`, and below them `shift`, `[D + 1, D]`."""
        return np.concatenate([self.turn, self.shift[None]])

    def arrays(self) -> dict[str, Float32]:
        """What is kept of it, two dimensions each."""
        kept = {"correction": self.stacked()}
        if self.dynamics is not None:
            kept |= {"levels_db": self.dynamics.levels_db, "gains_db": self.dynamics.gains_db}
            if self.dynamics.envelope is not None:
                kept["envelope_db"] = self.dynamics.envelope.gains_db
        if self.opening is not None:
            kept["opening"] = np.array([astuple(self.opening)], dtype=np.float32)
        if self.hz is not None:
            kept["hz"] = np.array([[self.hz]], dtype=np.float32)
        return kept

    @classmethod
    def of(cls, arrays: Mapping[str, Float32]) -> Calibration:
        """The inverse. Raises ValueError for anything else."""
        values = arrays.get("correction", np.zeros((0, 0), np.float32))
        if values.ndim != 2 or len(values) != values.shape[1] + 1:
            raise ValueError(f"a calibration must have a correction [D + 1, D], got {values.shape}")
        return cls(
            np.ascontiguousarray(values[:-1]),
            values[-1],
            _dynamics(arrays),
            _opening(arrays.get("opening")),
            _hz(arrays),
        )


def _dynamics(arrays: Mapping[str, Float32]) -> Dynamics | None:
    levels_db, gains_db, envelope_db = (arrays.get(name) for name in ("levels_db", "gains_db", "envelope_db"))
    if levels_db is None or gains_db is None:
        if any(part is not None for part in (levels_db, gains_db, envelope_db)):
            raise ValueError("a calibration must have both levels_db and gains_db, or neither")
        return None
    return Dynamics(levels_db, gains_db, None if envelope_db is None else Envelope(envelope_db))


def _hz(arrays: Mapping[str, Float32]) -> float | None:
    value = arrays.get("hz")
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


def voiced_frames(latents: Float32, wave: Float32) -> Float32:
    """Those of `latents [S, D]` whose sound is loud enough to tell a voice; `wave [S * hop]` is how they sound."""
    frames = len(latents)
    loudness = np.square(wave[: len(wave) // frames * frames].reshape(frames, -1)).mean(axis=1)
    loud: Float32 = latents[loudness > _QUIETEST * loudness.mean()]
    return loud


def match(written: Float32, recorded: Float32) -> Calibration:
    """What gives the latents that a network has `written [S, D]` the mean of those `recorded [P, D]`, and a covariance
    half-way to theirs, moving them as little as can be: along the optimal transport between two Gaussians (Takatsu,
    "Wasserstein geometry of Gaussian measures", 2011; for colours Pitié and Kokaram, "The linear Monge-Kantorovitch
    linear colour mapping", 2007).

    ModelError when either is too short to tell. No direction is stretched to more than a factor of 1.75.
    """
    shortest = min(len(written), len(recorded))
    if shortest < LEAST_FRAMES:
        raise ModelError(f"{shortest} frames of speech are too few to know a voice by, {LEAST_FRAMES} are needed")
    theirs, wanted = written.astype(np.float64), recorded.astype(np.float64)
    ridge = np.eye(wanted.shape[1]) * (_RIDGE * wanted.var(axis=0).mean() + 1e-9)
    source, target = _covariance(theirs) + ridge, _covariance(wanted) + ridge
    root, inverse = _roots(source)
    turn = inverse @ _roots(root @ target @ root)[0] @ inverse
    # Symmetric, so its eigenvalues are what directions are stretched by.
    stretch, directions = np.linalg.eigh(turn)
    stretch = 1 + _SHARE * (np.clip(stretch, *_STRETCH) - 1)
    turn = (directions * stretch) @ directions.T
    shift = wanted.mean(axis=0) - turn @ theirs.mean(axis=0)
    return Calibration(turn.astype(np.float32), shift.astype(np.float32))


def _covariance(values: _Float64) -> _Float64:
    centred = values - values.mean(axis=0)
    return np.asarray(centred.T @ centred / len(values))


def _roots(matrix: _Float64) -> tuple[_Float64, _Float64]:
    """The square root of a symmetric matrix without negative eigenvalues but for rounding, and its inverse."""
    values, directions = np.linalg.eigh(matrix)
    scale = np.sqrt(np.maximum(values, 1e-12))
    return np.asarray((directions * scale) @ directions.T), np.asarray((directions / scale) @ directions.T)
