"""Telephone codes of ITU-T G.711, by table: mu-law and A-law, one byte a sample."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from sled_tts.server.audio.pcm import to_int16
from sled_tts.server.engine.request import Float32

Law = Literal["mulaw", "alaw"]
# mu-law is defined on 14 bits.
_MU_BIAS, _MU_CLIP = 33, 8_159


class G711Encoder:
    """8 bits a sample, whatever the rate."""

    heavy = False

    def __init__(self, law: Law) -> None:
        self.media_type = "audio/basic" if law == "mulaw" else "audio/x-alaw-basic"
        self._table = _mulaw_table() if law == "mulaw" else _alaw_table()

    def encode(self, pcm: Float32) -> bytes:
        return self._table[to_int16(pcm).view(np.uint16)].tobytes()

    def finish(self) -> bytes:
        return b""


def _all_samples() -> npt.NDArray[np.int32]:
    """Every 16-bit sample, in the order of its two's complement as an unsigned index."""
    return np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)


def _highest_bit(magnitude: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return np.asarray(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32))


@cache
def _mulaw_table() -> npt.NDArray[np.uint8]:
    samples = _all_samples()
    magnitude = np.minimum(np.abs(samples >> 2) + _MU_BIAS, _MU_CLIP)
    exponent = _highest_bit(magnitude) - 5
    code = np.where(samples < 0, 0x80, 0) | (exponent << 4) | ((magnitude >> (exponent + 1)) & 0x0F)
    return np.asarray(~code & 0xFF, dtype=np.uint8)


@cache
def _alaw_table() -> npt.NDArray[np.uint8]:
    samples = _all_samples()
    # Negative values are one's complements, so that both signs have the same steps.
    magnitude = np.where(samples < 0, -samples - 1, samples)
    exponent = np.maximum(_highest_bit(magnitude) - 7, 0)
    mantissa = np.where(exponent > 0, magnitude >> (exponent + 3), magnitude >> 4) & 0x0F
    code = np.where(samples < 0, 0, 0x80) | (exponent << 4) | mantissa
    return np.asarray(code ^ 0x55, dtype=np.uint8)
