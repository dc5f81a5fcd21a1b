"""Another sample rate, as a stream: state is carried, so cuts between chunks cannot be heard."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd
from typing import TYPE_CHECKING, Protocol

import numpy as np
import soxr
from numpy.lib.stride_tricks import sliding_window_view

from sled_tts.server.engine.request import Float32

if TYPE_CHECKING:
    from sled_tts.server.audio.encoder import AudioEncoder


# Zero crossings of the sinc on either side, where it cuts off (1 is half the lower rate), and Kaiser's beta (-90 dB).
_CROSSINGS, _CUTOFF, _BETA = 32, 0.94, 9.0
# Above this a table of all phases is too large; only odd rates such as 47999 Hz get there.
_MOST_PHASES = 1_000
_BLOCK = 4_096


class _Stream(Protocol):
    def write(self, pcm: Float32) -> Float32: ...

    def finish(self) -> Float32: ...


class Resampler:
    """Mono fp32 from `rate_in` to `rate_out` Hz; holds back 32 samples of the lower rate (4 ms at 8 kHz).

    Odd ratios go through soxr, which works in blocks and holds back more (up to 120 ms).
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        common = gcd(rate_in, rate_out)
        up, down = rate_out // common, rate_in // common
        self._stream: _Stream = _Soxr(rate_in, rate_out) if up > _MOST_PHASES else _Polyphase(up, down)

    def write(self, pcm: Float32) -> Float32:
        """Samples `[N]` in, those that are ready out."""
        return self._stream.write(pcm)

    def finish(self) -> Float32:
        """The samples held back."""
        return self._stream.finish()


class _Soxr:
    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")

    def write(self, pcm: Float32) -> Float32:
        return np.asarray(self._stream.resample_chunk(pcm), dtype=np.float32)

    def finish(self) -> Float32:
        return np.asarray(self._stream.resample_chunk(np.zeros(0, np.float32), last=True), dtype=np.float32)


class _Polyphase:
    """Output `n` lies at input `n * down / up`: a windowed sinc there, one row of a table for each fraction."""

    def __init__(self, up: int, down: int) -> None:
        self._up, self._down = up, down
        self._taps = _table(up, down)
        self._half = self._taps.shape[1] // 2
        self._held = np.zeros(self._half - 1, np.float32)
        # Index of the first sample held, how many have been written, and the next output.
        self._first, self._heard, self._next = 1 - self._half, 0, 0

    def write(self, pcm: Float32) -> Float32:
        self._held = np.concatenate([self._held, pcm])
        self._heard += pcm.size
        return self._until(-(-(self._heard - self._half) * self._up // self._down))

    def finish(self) -> Float32:
        self._held = np.concatenate([self._held, np.zeros(self._half, np.float32)])
        return self._until(-(-self._heard * self._up // self._down))

    def _until(self, end: int) -> Float32:
        parts: list[Float32] = [np.zeros(0, np.float32)]
        while self._next < end:
            outputs = np.arange(self._next, min(end, self._next + _BLOCK), dtype=np.int64) * self._down
            begins = outputs // self._up - (self._half - 1) - self._first
            windows = sliding_window_view(self._held, 2 * self._half)[begins]
            parts.append((windows * self._taps[outputs % self._up]).sum(axis=1))
            self._next += outputs.size
        begin = max(0, self._next * self._down // self._up - (self._half - 1) - self._first)
        self._held = self._held[begin:]
        self._first += begin
        return np.concatenate(parts)


@lru_cache(maxsize=32)
def _table(up: int, down: int) -> Float32:
    """Taps `[up, 2 * half]` for fractions 0, 1 / up, ...; each row adds up to one."""
    scale = min(1.0, up / down)
    half = ceil(_CROSSINGS / scale)
    distance = np.arange(up)[:, None] / up - np.arange(1 - half, half + 1)[None, :]
    inside = np.clip(1 - np.square(distance / half), 0.0, None)
    taps = np.sinc(_CUTOFF * scale * distance) * np.i0(_BETA * np.sqrt(inside))
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), dtype=np.float32)


class ResamplingEncoder:
    """Another encoder, fed at another rate."""

    def __init__(self, inner: AudioEncoder, rate_in: int, rate_out: int) -> None:
        self._inner = inner
        self._resampler = Resampler(rate_in, rate_out)

    @property
    def media_type(self) -> str:
        return self._inner.media_type

    @property
    def heavy(self) -> bool:
        return self._inner.heavy

    def encode(self, pcm: Float32) -> bytes:
        ready = self._resampler.write(pcm)
        return self._inner.encode(ready) if ready.size else b""

    def finish(self) -> bytes:
        rest = self._resampler.finish()
        return (self._inner.encode(rest) if rest.size else b"") + self._inner.finish()
