"""How loud each band of a checkpoint's speech is heard, by how loud it is: what is common to turning the noise of a
small codec down (`expanding`) and to giving a cloned voice the loudness of its recording (`likening`).

Gains depend on the level in bands of a short-time spectrum, as in a multiband expander; on levels that are known
instead of followed, because all speech of a checkpoint has one level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sled_tts.model.melody.envelope import Envelope

Float32 = npt.NDArray[np.float32]

STEPS_A_WINDOW = 4
_LEAST = 1e-5
_MOST_DB = 400.0
# Neighbouring bands and moments count a little: a single loud or quiet one is chance.
_SMOOTH = (0.25, 0.5, 0.25)


@dataclass(frozen=True)
class Dynamics:
    """Of windows of W samples: `levels_db [K, W / 2 + 1]`, in dB as `levels` gives them and rising with K, gain
    `gains_db [K, W / 2 + 1]`; those between gain what lies between, those beyond as much as the last. `envelope`: what
    levels gain before that."""

    levels_db: Float32 = field(repr=False)
    gains_db: Float32 = field(repr=False)
    envelope: Envelope | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, value in (("levels_db", self.levels_db), ("gains_db", self.gains_db)):
            if value.dtype != np.float32 or value.ndim != 2 or value.shape != self.levels_db.shape:
                raise ValueError(f"{name} must be float32 [K, W / 2 + 1], got {value.dtype} {value.shape}")
            if not np.isfinite(value).all() or np.abs(value).max(initial=0.0) > _MOST_DB:
                raise ValueError(f"{name} must be finite and within {_MOST_DB:g} dB")
        knots, bands = self.levels_db.shape
        if knots < 2 or bands < 9 or (bands - 1) % STEPS_A_WINDOW:
            raise ValueError(f"levels_db must hold two or more rows of W / 2 + 1, W a multiple of 8: {knots, bands}")
        if (np.diff(self.levels_db, axis=0) < 0).any():
            raise ValueError("levels_db must rise in every band")
        if self.envelope is not None and self.envelope.gains_db.shape[1] != bands:
            raise ValueError(f"an envelope of {self.envelope.gains_db.shape[1]} bands, and levels of {bands}")

    def arrays(self) -> dict[str, Float32]:
        """What is kept of it, two dimensions each."""
        kept = {"levels_db": self.levels_db, "gains_db": self.gains_db}
        return kept if self.envelope is None else {**kept, "envelope_db": self.envelope.gains_db}

    @classmethod
    def of(cls, arrays: Mapping[str, Float32]) -> Dynamics | None:
        """The inverse; None where none of it is there. Raises ValueError for a part of it."""
        levels_db, gains_db, envelope_db = (arrays.get(name) for name in ("levels_db", "gains_db", "envelope_db"))
        if levels_db is None or gains_db is None:
            if any(part is not None for part in (levels_db, gains_db, envelope_db)):
                raise ValueError("dynamics must have both levels_db and gains_db, or neither")
            return None
        return cls(levels_db, gains_db, None if envelope_db is None else Envelope(envelope_db))

    @property
    def window(self) -> int:
        return 2 * (len(self.levels_db[0]) - 1)

    def gains(self, loud: Float32) -> Float32:
        """dB for windows of levels `[F, W / 2 + 1]`."""
        if self.envelope is not None:
            moved = self.envelope.gains(loud)
            return moved + self._curves(loud + moved)
        return self._curves(loud)

    def _curves(self, loud: Float32) -> Float32:
        gained = np.broadcast_to(self.gains_db[0], loud.shape)
        for low, width, step in self._pieces:
            gained = gained + step * np.minimum(np.maximum(loud - low, 0) / width, 1)
        return np.asarray(gained, dtype=np.float32)

    @cached_property
    def _pieces(self) -> list[tuple[Float32, Float32, Float32]]:
        """Where each piece of a curve begins, how wide it is and how far it leads."""
        width = np.maximum(np.diff(self.levels_db, axis=0), np.float32(1e-3))
        return list(zip(self.levels_db[:-1], width, np.diff(self.gains_db, axis=0), strict=True))


def levels(spectra: npt.NDArray[np.complex64]) -> Float32:
    """Loudness in dB of spectra `[F, W / 2 + 1]` as `spectra_of` makes them."""
    return np.asarray(20 * np.log10(np.abs(spectra) + np.float32(_LEAST)), dtype=np.float32)


def spectra_of(samples: Float32, window: int) -> npt.NDArray[np.complex64]:
    """Of all whole windows in `samples [N]`, a quarter of a window apart."""
    step = window // STEPS_A_WINDOW
    count = max(0, (len(samples) - window) // step + 1)
    if not count:
        return np.zeros((0, window // 2 + 1), dtype=np.complex64)
    parts = np.lib.stride_tricks.sliding_window_view(samples, window)[: count * step : step]
    return np.fft.rfft(parts * _taper(window), axis=1).astype(np.complex64)


def smoothed(loud: Float32) -> Float32:
    """Levels `[F, W / 2 + 1]` of windows that follow each other, as gains are chosen by them."""
    known = np.pad(loud, ((1, 1), (0, 0)), mode="edge") if len(loud) else loud[:0]
    return _across_bands(_across_windows(known))


class DynamicsStream:
    """One utterance's sound, as it arrives; the same samples however it arrives. All but the last `delay` samples of
    what has arrived can be returned, in whole frames of `hop` samples."""

    def __init__(self, how: Dynamics, hop: int) -> None:
        self._how, self._hop, window = how, hop, how.window
        # A window less its step, and the next window, by which a gain is smoothed.
        self.delay = math.ceil(window / hop) * hop
        self._step = window // STEPS_A_WINDOW
        self._held = window - self._step
        self._early = self._held
        self._taper = _taper(window) * np.float32(2 / STEPS_A_WINDOW)
        self._samples = np.zeros(self._held, dtype=np.float32)
        # Windows that wait for the next one's levels, and the levels from the one before them on.
        self._waiting = np.zeros((0, window // 2 + 1), dtype=np.complex64)
        self._levels = np.zeros((0, window // 2 + 1), dtype=np.float32)
        self._sum = np.zeros((STEPS_A_WINDOW - 1, self._step), dtype=np.float32)
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
        """Those of all windows so far whose neighbours are known, as loud as they shall be."""
        loud = levels(spectra)
        first, last = (loud[:1] if not len(self._levels) else loud[:0]), (loud[-1:] if final else loud[:0])
        known = np.concatenate([self._levels, first, loud, last])
        waiting = np.concatenate([self._waiting, spectra])
        count = max(0, len(known) - 2)
        self._levels, self._waiting = known[count:], waiting[count:]
        loud = _across_bands(_across_windows(known))
        return np.asarray(waiting[:count] * 10 ** (self._how.gains(loud) / 20), dtype=np.complex64)

    def _add(self, spectra: npt.NDArray[np.complex64]) -> None:
        count = len(spectra)
        parts = np.fft.irfft(spectra, self._how.window, axis=1).astype(np.float32) * self._taper
        total = np.concatenate([self._sum, np.zeros((count, self._step), dtype=np.float32)])
        # Earlier windows first, so that sums have the same bits in any chunks.
        for place in reversed(range(STEPS_A_WINDOW)):
            total[place : place + count] += parts[:, place * self._step : (place + 1) * self._step]
        finished, self._sum = total[:count].reshape(-1), total[count:]
        early = min(self._early, len(finished))
        self._early -= early
        self._done = np.concatenate([self._done, finished[early:]])


def _across_windows(loud: Float32) -> Float32:
    """`[F, B]` to `[F - 2, B]`."""
    count = max(0, len(loud) - 2)
    before, here, after = (np.float32(part) * loud[k : k + count] for k, part in enumerate(_SMOOTH))
    return np.asarray(before + here + after)


def _across_bands(loud: Float32) -> Float32:
    wide = np.pad(loud, ((0, 0), (1, 1)), mode="edge")
    return np.asarray(_SMOOTH[0] * wide[:, :-2] + _SMOOTH[1] * wide[:, 1:-1] + _SMOOTH[2] * wide[:, 2:], np.float32)


def _taper(window: int) -> Float32:
    """Square root of a periodic Hann window: applied twice, windows a quarter apart add up to two."""
    return np.asarray(np.sin(np.pi * np.arange(window) / window), dtype=np.float32)
