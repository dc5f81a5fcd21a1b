"""Another sample rate, as a stream: state is carried, so cuts between chunks cannot be heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

from sled_tts.server.engine.request import Float32

if TYPE_CHECKING:
    from sled_tts.server.audio.encoder import AudioEncoder


class Resampler:
    """Mono fp32 from `rate_in` to `rate_out` Hz (soxr, high quality; holds back about 10 ms until `finish`)."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")

    def write(self, pcm: Float32) -> Float32:
        """Samples `[N]` in, those that are ready out."""
        return np.asarray(self._stream.resample_chunk(pcm), dtype=np.float32)

    def finish(self) -> Float32:
        """The samples held back."""
        return np.asarray(self._stream.resample_chunk(np.zeros(0, np.float32), last=True), dtype=np.float32)


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
