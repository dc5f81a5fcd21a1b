"""What brings a voice that a network imitates nearer to its recording: a scale and a shift of the latents it writes.

A small network leans towards the voices that it was trained on most. Mean and spread of its latents over some sentences
show by how much; undone before the codec's decoder, the rest of the voice follows. What the network reads back stays
its own: corrected feedback made words worse (docs/decisions/0011-calibrated-voices.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sled_tts.model.errors import ModelError

Float32 = npt.NDArray[np.float32]

# Frames this much quieter than the mean say nothing about a voice.
_QUIETEST = 0.03
# Fewer frames say more about the words than about the voice.
LEAST_FRAMES = 50
_SCALES = (0.6, 1.7)


@dataclass(frozen=True)
class Calibration:
    """Codec latents `[S, D]` of a voice become `latents * scale + shift`; both are `[D]`, fp32."""

    scale: Float32 = field(repr=False)
    shift: Float32 = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("scale", "shift"):
            value = getattr(self, name)
            if value.dtype != np.float32 or value.ndim != 1 or value.shape != self.scale.shape:
                raise ValueError(f"{name} of a calibration must be float32 [D], got {value.dtype} {value.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} of a calibration is not finite")

    def stacked(self) -> Float32:
        """Scale and shift, `[2, D]`."""
        return np.stack([self.scale, self.shift])

    @classmethod
    def unstacked(cls, values: Float32) -> Calibration:
        """The inverse. Raises ValueError for anything but finite fp32 `[2, D]`."""
        if values.ndim != 2 or len(values) != 2:
            raise ValueError(f"a calibration must be [2, D], got {values.shape}")
        return cls(values[0], values[1])


def voiced_frames(latents: Float32, wave: Float32) -> Float32:
    """Those of `latents [S, D]` whose sound is loud enough to tell a voice; `wave [S * hop]` is how they sound."""
    frames = len(latents)
    loudness = np.square(wave[: len(wave) // frames * frames].reshape(frames, -1)).mean(axis=1)
    loud: Float32 = latents[loudness > _QUIETEST * loudness.mean()]
    return loud


def match(written: Float32, recorded: Float32) -> Calibration:
    """What gives the latents that a network has `written [S, D]` the mean and the spread of those `recorded [P, D]`.

    ModelError when either is too short to tell. Spreads are brought together by at most a factor of 1.7.
    """
    shortest = min(len(written), len(recorded))
    if shortest < LEAST_FRAMES:
        raise ModelError(f"{shortest} frames of speech are too few to know a voice by, {LEAST_FRAMES} are needed")
    spread = recorded.std(axis=0) / np.maximum(written.std(axis=0), 1e-6)
    scale = np.clip(spread, *_SCALES).astype(np.float32)
    shift = recorded.mean(axis=0) - scale * written.mean(axis=0)
    return Calibration(scale, shift.astype(np.float32))
