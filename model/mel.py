"""Mel filters."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mel_filterbank(
    sampling_rate: int, n_fft: int, bands: int, lowest_hz: float = 0.0, highest_hz: float | None = None
) -> Tensor:
    """Triangular mel filters `[bands, n_fft // 2 + 1]` (HTK scale) up to `highest_hz`, None for half the rate."""

    def to_mel(hz: float) -> float:
        return 2595 * math.log10(1 + hz / 700)

    def to_hz(mel: float) -> float:
        return 700.0 * (10 ** (mel / 2595) - 1)

    bottom, top = to_mel(lowest_hz), to_mel(sampling_rate / 2 if highest_hz is None else highest_hz)
    edges = torch.tensor([to_hz(bottom + (top - bottom) * i / (bands + 1)) for i in range(bands + 2)])
    bins = torch.linspace(0, sampling_rate / 2, n_fft // 2 + 1)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return torch.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)).clamp(min=0)
