"""RIFF/WAVE as a stream of unknown length."""

from __future__ import annotations

import struct

from sled_tts.server.audio.pcm import PcmEncoder
from sled_tts.server.engine.request import Float32

# The length is not known when the header goes out; players read 0xFFFFFFFF as "until the end".
_UNKNOWN = 0xFFFFFFFF


def wav_header(sample_rate: int, *, data_bytes: int = _UNKNOWN) -> bytes:
    """44 bytes for 16-bit mono at `sample_rate` Hz."""
    riff_bytes = _UNKNOWN if data_bytes == _UNKNOWN else data_bytes + 36
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", riff_bytes, b"WAVE", b"fmt ", 16, 1, 1, sample_rate, sample_rate * 2, 2, 16, b"data", data_bytes,
    )  # fmt: skip


class WavEncoder:
    """16-bit mono; exactly one header, before the first sample."""

    media_type = "audio/wav"

    def __init__(self, sample_rate: int) -> None:
        self._header = wav_header(sample_rate)
        self._samples = PcmEncoder("s16le")

    def encode(self, pcm: Float32) -> bytes:
        header, self._header = self._header, b""
        return header + self._samples.encode(pcm)

    def finish(self) -> bytes:
        header, self._header = self._header, b""
        return header
