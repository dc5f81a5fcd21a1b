"""Gains that move the spectral envelope of a voice: each band by what all bands are, which `dynamics` alone cannot.

They are linear in the cepstrum of a window, as a change of the length of the vocal tract is (Pitz and Ney, "Vocal tract
normalization equals linear transformation in cepstral space", 2005), and as are regressions of one voice's cepstra on
another's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Bands of 62.5 Hz: below about the eleventh they are evenly spaced, as on the mel scale.
_LINEAR_BANDS = 11.0
# Less leaves some voices nearer to another than to their own (docs/decisions/0017-one-pitch-for-recordings.md).
MOST_DB = 12.0


@dataclass(frozen=True)
class Envelope:
    """`gains_db [C + 1, B]`: what each of C coefficients gains in each band for each dB of it, and what is gained
    always."""

    gains_db: Float32 = field(repr=False)

    def __post_init__(self) -> None:
        value = self.gains_db
        if value.dtype != np.float32 or value.ndim != 2 or not 2 <= len(value) <= value.shape[1]:
            raise ValueError(f"gains_db of an envelope must be float32 [C + 1, B], got {value.dtype} {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError("gains_db of an envelope are not finite")

    def gains(self, loud: Float32) -> Float32:
        """dB, at most 12 either way, for windows of levels `[F, B]`; the same bits for a window in any company."""
        gained = np.broadcast_to(self.gains_db[-1], loud.shape)
        # A product of matrices adds up in an order of its own for each F.
        for into, row in zip(self._into, self.gains_db[:-1], strict=True):
            gained = gained + (loud * into).sum(axis=1, keepdims=True) * row
        return np.asarray(np.clip(gained, -MOST_DB, MOST_DB), dtype=np.float32)

    @cached_property
    def _into(self) -> Float32:
        return into_cepstrum(self.gains_db.shape[1], len(self.gains_db) - 1).astype(np.float32)


def cosines(bands: int, count: int) -> Float64:
    """`[count, bands]`: what a coefficient of 1 is in each band."""
    return np.asarray(np.cos(np.pi * np.outer(np.arange(count), _places(bands))))


def into_cepstrum(bands: int, count: int) -> Float64:
    """`[count, bands]`: levels `[F, bands]` times its transpose are the coefficients that come nearest to them."""
    weighted = cosines(bands, count) * np.gradient(_places(bands))
    return np.asarray(np.linalg.solve(weighted @ cosines(bands, count).T + 1e-9 * np.eye(count), weighted))


def _places(bands: int) -> Float64:
    places = np.log1p(np.arange(bands) / _LINEAR_BANDS)
    return np.asarray(places / places[-1])
