"""Recordings re-spoken at a constant pitch that is locked to the frame grid (WORLD analysis and synthesis).

With a natural pitch a small codec and network must also learn the phase of every harmonic; at a pitch that is a
multiple of the frame rate each frame starts at the same place of a period, and a voice's waveform follows from its
spectral envelope. What is lost is intonation; voice, articulation and timing stay the reader's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from sled_tts.model.errors import ModelError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pyworld imports the deprecated pkg_resources
    import pyworld

Float64 = npt.NDArray[np.float64]

PITCHES_HZ = (100.0, 150.0)
_PERIOD_MS = 5.0


def pitch_track(wave: Float64, rate: int) -> tuple[Float64, Float64]:
    """Fundamental frequency (0 where unvoiced) and times of `wave [N]`, every 5 ms."""
    rough, times = pyworld.dio(wave, rate, frame_period=_PERIOD_MS)
    return pyworld.stonemask(wave, rough, times, rate), times


def median_pitch(waves: Iterable[Float64], rate: int) -> float:
    """Median voiced pitch of some recordings of one speaker, Hz. Raises ModelError when nothing is voiced."""
    voiced = np.concatenate([(track := pitch_track(wave, rate)[0])[track > 0] for wave in waves])
    if not len(voiced):
        raise ModelError("no voiced speech")
    return float(np.median(voiced))


def nearest_pitch(hz: float, choices: Iterable[float] = PITCHES_HZ) -> float:
    """The choice nearest to a speaker's pitch, by ratio."""
    return min(choices, key=lambda choice: abs(np.log(choice / hz)))


def lock_pitch(wave: Float64, rate: int, hz: float) -> Float64:
    """`wave [N]` spoken at `hz` throughout, pulses at multiples of 1 / hz from the first sample on; same length."""
    track, times = pitch_track(wave, rate)
    envelope = pyworld.cheaptrick(wave, track, times, rate)
    noise = pyworld.d4c(wave, track, times, rate)
    spoken: Float64 = pyworld.synthesize(np.full_like(track, hz), envelope, noise, rate, _PERIOD_MS)
    return np.pad(spoken, (0, max(0, len(wave) - len(spoken))))[: len(wave)]
