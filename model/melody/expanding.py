"""What a small codec says too loudly: the noise between harmonics and beneath fricatives, turned down as it is heard.

A downward expander in each band of a short-time spectrum: what lies further below the band's usual loud level than a
threshold sinks by a share of how much further (as noise reduction by spectral subtraction does, Boll 1979, with levels
that are known instead of followed, because all speech of a checkpoint has one level).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

_OVERLAP = 4
_LEAST = 1e-5
# Neighbouring bands and moments count a little: a single loud or quiet one is chance.
_SMOOTH = (0.25, 0.5, 0.25)


@dataclass(frozen=True)
class Expansion:
    """`levels_db [W / 2 + 1]`: how loud each band of windows of W samples is at its loudest, in dB as `levels` gives
    them. What is more than `threshold_db` below sinks by `slope` times the rest."""

    levels_db: Float32 = field(repr=False)
    threshold_db: float = 15.0
    slope: float = 0.5

    def __post_init__(self) -> None:
        if self.levels_db.ndim != 1 or len(self.levels_db) < 9 or (len(self.levels_db) - 1) % _OVERLAP:
            raise ValueError(f"levels_db must hold W / 2 + 1 levels, W a multiple of 8, got {self.levels_db.shape}")
        if not np.isfinite(self.levels_db).all():
            raise ValueError("levels_db are not finite")
        if not (0 <= self.threshold_db <= 80 and 0 <= self.slope <= 4):
            raise ValueError("threshold_db must be in [0, 80] and slope in [0, 4]")

    @property
    def window(self) -> int:
        return 2 * (len(self.levels_db) - 1)


def levels(spectra: npt.NDArray[np.complex64]) -> Float32:
    """Loudness in dB of spectra `[F, W / 2 + 1]` as `spectra_of` makes them."""
    return np.asarray(20 * np.log10(np.abs(spectra) + np.float32(_LEAST)), dtype=np.float32)


def spectra_of(samples: Float32, window: int) -> npt.NDArray[np.complex64]:
    """Of all whole windows in `samples [N]`, a quarter of a window apart."""
    step = window // _OVERLAP
    count = max(0, (len(samples) - window) // step + 1)
    if not count:
        return np.zeros((0, window // 2 + 1), dtype=np.complex64)
    parts = np.lib.stride_tricks.sliding_window_view(samples, window)[: count * step : step]
    return np.fft.rfft(parts * _taper(window), axis=1).astype(np.complex64)


class Expander:
    """One utterance's sound, as it arrives; the same samples however it arrives. All but the last `delay` samples of
    what has arrived can be returned, in whole frames of `hop` samples."""

    def __init__(self, how: Expansion, hop: int) -> None:
        self._how, self._hop, window = how, hop, how.window
        # A window less its step, and the next window, by which a gain is smoothed.
        self.delay = math.ceil(window / hop) * hop
        self._step = window // _OVERLAP
        self._held = window - self._step
        self._early = self._held
        self._taper = _taper(window) * np.float32(2 / _OVERLAP)
        self._samples = np.zeros(self._held, dtype=np.float32)
        # Windows that wait for the next one's levels, and the levels from the one before them on.
        self._waiting = np.zeros((0, window // 2 + 1), dtype=np.complex64)
        self._levels = np.zeros((0, window // 2 + 1), dtype=np.float32)
        self._sum = np.zeros(window, dtype=np.float32)
        self._done = np.zeros(0, dtype=np.float32)
        self._arrived = self._returned = 0

    def push(self, samples: Float32, final: bool) -> Float32:
        """`samples [k * hop]`; returns what is finished, all that is missing if this is the `final` call."""
        self._arrived += len(samples)
        more = np.zeros(-self._arrived % self._step + self._held if final else 0, dtype=np.float32)
        self._samples = np.concatenate([self._samples, samples, more])
        spectra = spectra_of(self._samples, self._how.window)
        self._samples = self._samples[len(spectra) * self._step :]
        self._add(self._decided(spectra, final))
        until = self._arrived if final else max(self._arrived - self.delay, self._returned)
        out, self._done = np.split(self._done, [until - self._returned])
        self._returned = until
        return out

    def _decided(self, spectra: npt.NDArray[np.complex64], final: bool) -> npt.NDArray[np.complex64]:
        """Those of all windows so far whose neighbours are known, turned down."""
        loud = levels(spectra)
        first, last = (loud[:1] if not len(self._levels) else loud[:0]), (loud[-1:] if final else loud[:0])
        known = np.concatenate([self._levels, first, loud, last])
        waiting = np.concatenate([self._waiting, spectra])
        count = max(0, len(known) - 2)
        self._levels, self._waiting = known[count:], waiting[count:]
        before, here, after = (np.float32(part) * known[k : k + count] for k, part in enumerate(_SMOOTH))
        wide = np.pad(before + here + after, ((0, 0), (1, 1)), mode="edge")
        smooth = _SMOOTH[0] * wide[:, :-2] + _SMOOTH[1] * wide[:, 1:-1] + _SMOOTH[2] * wide[:, 2:]
        below = np.minimum(smooth - (self._how.levels_db - self._how.threshold_db), 0)
        return np.asarray(waiting[:count] * 10 ** (self._how.slope / 20 * below), dtype=np.complex64)

    def _add(self, spectra: npt.NDArray[np.complex64]) -> None:
        done = [self._done]
        for part in np.fft.irfft(spectra, self._how.window, axis=1).astype(np.float32) * self._taper:
            self._sum += part
            early = min(self._early, self._step)
            self._early -= early
            done.append(self._sum[early : self._step])
            self._sum = np.concatenate([self._sum[self._step :], np.zeros(self._step, dtype=np.float32)])
        self._done = np.concatenate(done)


def expansion_from(entry: object) -> Expansion:
    """Of a table with `levels_db` and, if it likes, the other fields. Raises ValueError or TypeError."""
    if not isinstance(entry, dict):
        raise TypeError(f"expansion must be a table, got {entry!r}")
    if wrong := sorted(set(entry) - {"levels_db", "threshold_db", "slope"}):
        raise ValueError(f"expansion: unknown key {wrong[0]}")
    given: Sequence[float] = entry.get("levels_db", ())
    rest = {name: float(value) for name, value in entry.items() if name != "levels_db"}
    return Expansion(np.asarray(given, dtype=np.float32), **rest)


def _taper(window: int) -> Float32:
    """Square root of a periodic Hann window: applied twice, windows a quarter apart add up to two."""
    return np.asarray(np.sin(np.pi * np.arange(window) / window), dtype=np.float32)
