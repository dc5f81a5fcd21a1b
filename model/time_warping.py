"""Which moments of two recordings of the same words correspond: dynamic time warping of mel cepstra (Sakoe and Chiba,
"Dynamic programming algorithm optimization for spoken word recognition", 1978), pauses left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sled_tts.model.mel import mel_filterbank

Float32 = npt.NDArray[np.float32]
_Float64 = npt.NDArray[np.float64]

STEP_S = 0.01
_WINDOW_S = 0.025
_BANDS, _KEPT = 26, 13
_LOWEST_HZ, _HIGHEST_HZ = 80.0, 7600.0
_EMPHASIS = 0.97
# Of a band's mean power, so that silence is not told apart by its noise.
_FLOOR = 1e-4
# What the cepstra's change counts beside themselves.
_CHANGE = 0.7
# Below the loud parts: pauses, which one may make where another makes none, and closures of stops, which both make.
_QUIET_DB = -26.0


@dataclass(frozen=True)
class Sounding:
    """The steps of a recording that sound: which they are, `steps [F]`, and their `cepstra [F, 2 * 13]`."""

    steps: npt.NDArray[np.int_] = field(repr=False)
    cepstra: _Float64 = field(repr=False)

    @classmethod
    def of(cls, wave: Float32, rate: int) -> Sounding:
        """Of samples `[N]` at `rate` Hz; ValueError for less than 35 ms."""
        cepstra = _cepstra(wave, rate)
        loud = _loudness(wave, rate)[: len(cepstra)]
        steps = np.flatnonzero(loud > _QUIET_DB)
        return cls(steps, cepstra[steps])

    @property
    def seconds(self) -> _Float64:
        """The middle of each step's window."""
        return np.asarray(self.steps * STEP_S + _WINDOW_S / 2)

    @classmethod
    def one_after_another(cls, parts: Sequence[Sounding]) -> Sounding:
        """As if they had been said without a pause."""
        cepstra = np.concatenate([part.cepstra for part in parts])
        return cls(np.arange(len(cepstra)), cepstra)


def pairs(said: Sounding, recorded: Sounding) -> npt.NDArray[np.int_]:
    """Which steps correspond, `[P, 2]`, as places in `said.steps` and `recorded.steps`, both from first to last;
    ValueError for silence."""
    return _path(_levelled(said.cepstra), _levelled(recorded.cepstra))


def corresponding(said: Sounding, recorded: Sounding, places: Sequence[int]) -> list[int]:
    """Where in `recorded.steps` it first is as far as `said` is at `places` of its own; ValueError for silence."""
    path = pairs(said, recorded)
    return [int(path[np.searchsorted(path[:, 0], place), 1]) for place in places]


def _loudness(wave: Float32, rate: int) -> _Float64:
    """dB below the loud parts, in steps of 10 ms, over three of them."""
    step = round(STEP_S * rate)
    whole = len(wave) // step * step
    power = np.square(wave[:whole].astype(np.float64)).reshape(-1, step).mean(axis=1)
    level = 10 * np.log10(power / max(float(np.percentile(power, 95)), 1e-12) + 1e-8)
    return np.convolve(np.pad(level, 1, mode="edge"), np.ones(3) / 3, "valid")


def _cepstra(wave: Float32, rate: int) -> _Float64:
    """`[F, 2 * 13]` in steps of 10 ms: mel cepstra, and how they change."""
    window, step = round(_WINDOW_S * rate), round(STEP_S * rate)
    if len(wave) < window + step:
        raise ValueError(f"{len(wave)} samples at {rate} Hz are too few to compare")
    sharp = np.append(wave[:1], wave[1:] - _EMPHASIS * wave[:-1]).astype(np.float64)
    parts = np.lib.stride_tricks.sliding_window_view(sharp, window)[::step] * np.hanning(window)
    size = 2 ** int(np.ceil(np.log2(window)))
    bands = mel_filterbank(rate, size, _BANDS, _LOWEST_HZ, min(_HIGHEST_HZ, 0.475 * rate))
    power = (np.abs(np.fft.rfft(parts, size)) ** 2) @ bands.numpy().T
    loud = np.log(power + _FLOOR * power.mean(axis=0) + 1e-9)
    places = (np.arange(_BANDS) + 0.5) / _BANDS
    kept = loud @ np.cos(np.pi * np.outer(np.arange(_KEPT), places)).T
    kept = (kept - kept.mean(axis=0)) / (kept.std(axis=0) + 1e-9)
    change = np.gradient(kept, axis=0)
    return np.concatenate([kept, change / (change.std(axis=0) + 1e-9)], axis=1)


def _levelled(cepstra: _Float64) -> _Float64:
    """Without what is the voice's and the room's: mean and spread. ValueError for too few steps."""
    if len(cepstra) < 2:
        raise ValueError("almost nothing sounds")
    weight = np.repeat([1.0, _CHANGE], _KEPT)
    return np.asarray((cepstra - cepstra.mean(axis=0)) / (cepstra.std(axis=0) + 1e-9) * weight)


def _path(a: _Float64, b: _Float64) -> npt.NDArray[np.int_]:
    """The pairs `[P, 2]` of rows of `a [N, C]` and `b [M, C]` by which both advance together, from first to last."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    apart = np.sqrt(np.maximum(squares, 0))
    n, m = apart.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(n + m - 1):
        i = np.arange(max(0, diagonal - m + 1), min(n, diagonal + 1))
        j = diagonal - i
        total[i + 1, j + 1] = apart[i, j] + np.minimum(np.minimum(total[i, j], total[i, j + 1]), total[i + 1, j])
    i, j = n, m
    pairs = [(n - 1, m - 1)]
    while (i, j) != (1, 1):
        before = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(before, key=lambda pair: total[pair])
        pairs.append((i - 1, j - 1))
    return np.array(pairs[::-1])
