"""RIFF/WAVE as a stream of unknown length."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sled_tts.server.audio.formats import Codec
from sled_tts.server.audio.raw import raw_encoder
from sled_tts.server.audio.synthetic import SYNTHETIC_TAGS
from sled_tts.server.engine.request import Float32

# The length is not known when the header goes out; players read 0xFFFFFFFF as "until the end".
_UNKNOWN = 0xFFFFFFFF
# RIFF's four-letter names of the tags.
_INFO_IDS = {"comment": b"ICMT", "encoded_by": b"ISFT"}


@dataclass(frozen=True)
class _Samples:
    """How a wav says what its samples are: `tag` of the registry of wave formats, bytes of one."""

    tag: int
    width: int


_SAMPLES = {
    Codec.PCM_S16LE: _Samples(1, 2),
    Codec.PCM_F32LE: _Samples(3, 4),
    Codec.ALAW: _Samples(6, 1),
    Codec.MULAW: _Samples(7, 1),
}


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _info() -> bytes:
    """A LIST chunk that says that the speech is synthetic. Before the samples: nothing can follow them in a stream."""
    tags = b"".join(_chunk(_INFO_IDS[name], text.encode() + b"\0") for name, text in SYNTHETIC_TAGS.items())
    return _chunk(b"LIST", b"INFO" + tags)


def wav_header(sample_rate: int, samples: Codec = Codec.PCM_S16LE, *, data_bytes: int = _UNKNOWN) -> bytes:
    """Everything before the samples, for mono at `sample_rate` Hz, 16-bit unless `samples` are of another raw codec."""
    tag, width = _SAMPLES[samples].tag, _SAMPLES[samples].width
    form = struct.pack("<HHIIHH", tag, 1, sample_rate, sample_rate * width, width, 8 * width)
    if tag == 1:
        fmt = _chunk(b"fmt ", form)
    else:
        # Any other kind has an (empty) extension, and its length in samples once more.
        count = _UNKNOWN if data_bytes == _UNKNOWN else data_bytes // width
        fmt = _chunk(b"fmt ", form + b"\0\0") + _chunk(b"fact", struct.pack("<I", count))
    before = b"WAVE" + fmt + _info() + b"data"
    riff_bytes = _UNKNOWN if data_bytes == _UNKNOWN else len(before) + 4 + data_bytes
    return b"RIFF" + struct.pack("<I", riff_bytes) + before + struct.pack("<I", data_bytes)


class WavEncoder:
    """Mono, 16-bit unless `samples` are of another raw codec; exactly one header, before the first sample."""

    media_type = "audio/wav"
    heavy = False

    def __init__(self, sample_rate: int, samples: Codec = Codec.PCM_S16LE) -> None:
        self._header = wav_header(sample_rate, samples)
        self._samples = raw_encoder(samples)

    def encode(self, pcm: Float32) -> bytes:
        header, self._header = self._header, b""
        return header + self._samples.encode(pcm)

    def finish(self) -> bytes:
        header, self._header = self._header, b""
        return header
