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

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

PITCHES_HZ = (100.0, 150.0)
_PERIOD_MS = 5.0


def pitch_track(wave: Float64, rate: int) -> tuple[Float64, Float64]:
    """Fundamental frequency (0 where unvoiced) and times of `wave [N]`, every 5 ms."""
    rough, times = pyworld.dio(wave, rate, frame_period=_PERIOD_MS)
    return pyworld.stonemask(wave, rough, times, rate), times


def median_pitch(waves: Iterable[Float64], rate: int) -> float:
    """Median voiced pitch of some recordings of one speaker, Hz. Raises ModelError when nothing is voiced."""
    return median_voiced(pitch_track(wave, rate)[0] for wave in waves)


def median_voiced(tracks: Iterable[Float64]) -> float:
    """The same of pitch tracks."""
    voiced = np.concatenate([track[track > 0] for track in tracks])
    if not len(voiced):
        raise ModelError("no voiced speech")
    return float(np.median(voiced))


def frame_pitches(track: Float64, rate: int, hop: int, frames: int) -> Float32:
    """Mean voiced pitch `[frames]`, Hz, of a track as `pitch_track` gives it; 0 where less than half of a frame's
    values are voiced, and after the track's end."""
    index = np.floor(np.arange(len(track)) * (_PERIOD_MS / 1000 * rate / hop) + 1e-6).astype(np.int64)
    track, index = track[index < frames], index[index < frames]
    values = np.bincount(index, minlength=frames)
    voiced = np.bincount(index, track > 0, minlength=frames)
    total = np.bincount(index, track, minlength=frames)
    pitches: Float32 = np.where(2 * voiced >= values, total / np.maximum(voiced, 1), 0.0).astype(np.float32)
    return pitches


def lock_pitch(wave: Float64, rate: int, hz: float, tracked: tuple[Float64, Float64] | None = None) -> Float64:
    """`wave [N]` spoken at `hz` throughout, pulses at multiples of 1 / hz from the first sample on; same length.
    `tracked` is its `pitch_track`, where that is known."""
    track, times = pitch_track(wave, rate) if tracked is None else tracked
    envelope = pyworld.cheaptrick(wave, track, times, rate)
    noise = pyworld.d4c(wave, track, times, rate)
    spoken: Float64 = pyworld.synthesize(np.full_like(track, hz), envelope, noise, rate, _PERIOD_MS)
    return np.pad(spoken, (0, max(0, len(wave) - len(spoken))))[: len(wave)]
