"""RIFF/WAVE as a stream of unknown length."""

from __future__ import annotations

import struct

from sled_tts.server.audio.pcm import PcmEncoder
from sled_tts.server.audio.synthetic import SYNTHETIC_TAGS
from sled_tts.server.engine.request import Float32

# The length is not known when the header goes out; players read 0xFFFFFFFF as "until the end".
_UNKNOWN = 0xFFFFFFFF
# RIFF's four-letter names of the tags.
_INFO_IDS = {"comment": b"ICMT", "encoded_by": b"ISFT"}


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _info() -> bytes:
    """A LIST chunk that says that the speech is synthetic. Before the samples: nothing can follow them in a stream."""
    tags = b"".join(_chunk(_INFO_IDS[name], text.encode() + b"\0") for name, text in SYNTHETIC_TAGS.items())
    return _chunk(b"LIST", b"INFO" + tags)


def wav_header(sample_rate: int, *, data_bytes: int = _UNKNOWN) -> bytes:
    """Everything before the samples, for 16-bit mono at `sample_rate` Hz."""
    form = struct.pack("<HHIIHH", 1, 1, sample_rate, sample_rate * 2, 2, 16)
    before = b"WAVE" + _chunk(b"fmt ", form) + _info() + b"data"
    riff_bytes = _UNKNOWN if data_bytes == _UNKNOWN else len(before) + 4 + data_bytes
    return b"RIFF" + struct.pack("<I", riff_bytes) + before + struct.pack("<I", data_bytes)


class WavEncoder:
    """16-bit mono; exactly one header, before the first sample."""

    media_type = "audio/wav"
    heavy = False

    def __init__(self, sample_rate: int) -> None:
        self._header = wav_header(sample_rate)
        self._samples = PcmEncoder("s16le")

    def encode(self, pcm: Float32) -> bytes:
        header, self._header = self._header, b""
        return header + self._samples.encode(pcm)

    def finish(self) -> bytes:
        header, self._header = self._header, b""
        return header
