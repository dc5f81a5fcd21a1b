"""What can be heard to be wrong without understanding a word: level, clipping, clicks, silence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class SignalReport:
    """Seconds, and shares of samples. `clicks`: sample steps far outside the local range."""

    duration_s: float
    peak: float
    rms: float
    clipped_share: float
    clicks: int
    leading_silence_s: float
    trailing_silence_s: float


def inspect(wave: npt.NDArray[np.float32], rate: int, *, silence: float = 0.01) -> SignalReport:
    """Inspect mono samples in -1..1."""
    if not len(wave):
        return SignalReport(0.0, 0.0, 0.0, 0.0, 0, 0.0, 0.0)
    loud = np.flatnonzero(np.abs(wave) > silence)
    first, last = (int(loud[0]), int(loud[-1])) if len(loud) else (len(wave), len(wave) - 1)
    steps = np.abs(np.diff(wave, prepend=wave[:1]))
    span = max(1, rate // 100)
    padded = np.pad(steps, (0, -len(steps) % span)).reshape(-1, span)
    # A click is one step several times larger than everything within 10 ms of it.
    ordered = np.sort(padded, axis=1)
    second = ordered[:, -2] if span > 1 else ordered[:, -1]
    clicks = int(((ordered[:, -1] > 0.2) & (ordered[:, -1] > 4 * second)).sum())
    return SignalReport(
        duration_s=len(wave) / rate,
        peak=float(np.abs(wave).max()),
        rms=float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))),
        clipped_share=float((np.abs(wave) >= 0.999).mean()),
        clicks=clicks,
        leading_silence_s=first / rate,
        trailing_silence_s=(len(wave) - 1 - last) / rate,
    )
