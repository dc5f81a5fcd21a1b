"""Raw little-endian samples."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sled_tts.server.engine.request import Float32

SampleFormat = Literal["s16le", "f32le"]


class PcmEncoder:
    """`s16le`: full scale is 32767, values outside [-1, 1] are clipped. `f32le`: the samples as they are."""

    media_type = "audio/pcm"

    def __init__(self, sample_format: SampleFormat) -> None:
        self._integer = sample_format == "s16le"

    def write(self, pcm: Float32) -> bytes:
        if not self._integer:
            return pcm.astype("<f4", copy=False).tobytes()
        samples: bytes = np.rint(np.clip(pcm, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
        return samples

    def finish(self) -> bytes:
        return b""
