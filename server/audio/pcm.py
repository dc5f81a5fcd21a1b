"""Raw little-endian samples."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from sled_tts.server.engine.request import Float32

SampleFormat = Literal["s16le", "f32le"]


def to_int16(pcm: Float32) -> npt.NDArray[np.int16]:
    """Full scale is 32767; values outside [-1, 1] are clipped."""
    return np.asarray(np.rint(np.clip(pcm, -1.0, 1.0) * 32767.0), dtype="<i2")


class PcmEncoder:
    """`s16le`: see `to_int16`. `f32le`: the samples as they are."""

    media_type = "audio/pcm"
    heavy = False

    def __init__(self, sample_format: SampleFormat) -> None:
        self._integer = sample_format == "s16le"

    def encode(self, pcm: Float32) -> bytes:
        if not self._integer:
            return pcm.astype("<f4", copy=False).tobytes()
        return to_int16(pcm).tobytes()

    def finish(self) -> bytes:
        return b""
