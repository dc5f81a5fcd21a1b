"""mp3, opus, aac and flac as streams: one encoder and one muxer of FFmpeg (PyAV) for one response."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream

from sled_tts.server.audio.formats import AudioFormat, Codec
from sled_tts.server.audio.pcm import to_int16
from sled_tts.server.audio.synthetic import SYNTHETIC_TAGS
from sled_tts.server.engine.request import Float32


@dataclass(frozen=True)
class _Recipe:
    """FFmpeg's names: muxer, encoder, sample format, and their options."""

    muxer: str
    encoder: str
    samples: str
    encoder_options: dict[str, str] = field(default_factory=dict)
    muxer_options: dict[str, str] = field(default_factory=dict)


_MUXER_OPTIONS = {
    # Every packet is handed on at once, and the same speech is the same bytes (ogg would number streams at random).
    "flush_packets": "1",
    "fflags": "+bitexact",
}
# Chosen for a short delay: no bit reservoir in mp3; pages of one packet in ogg, which otherwise collects a second of
# packets; flac's smaller blocks (about 25 ms).
_RECIPES: dict[Codec, _Recipe] = {
    Codec.MP3: _Recipe("mp3", "libmp3lame", "fltp", {"reservoir": "0"}, {"write_xing": "0"}),
    Codec.OPUS: _Recipe("ogg", "libopus", "flt", {"frame_duration": "20"}, {"page_duration": "20000"}),
    Codec.AAC: _Recipe("adts", "aac", "fltp"),
    Codec.FLAC: _Recipe("flac", "flac", "s16", {"compression_level": "2"}, {"metadata_header_padding": "0"}),
}


class _Sink:
    """What a muxer writes to. It has no `seek`, so that nothing is ever written back into what has been sent."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


class ContainerEncoder:
    """Fed at the format's own rate. Samples are handed on in whole codec frames, so cuts cannot be heard."""

    heavy = True

    def __init__(self, wanted: AudioFormat) -> None:
        recipe = _RECIPES[wanted.codec]
        self.media_type = wanted.content_type
        self._layout = recipe.samples
        self._rate = wanted.rate
        self._sink = _Sink()
        self._container = av.open(self._sink, "w", format=recipe.muxer, options=_MUXER_OPTIONS | recipe.muxer_options)
        self._stream = self._open_stream(recipe, wanted.bits_a_second)
        self._container.start_encoding()
        self._frame = self._stream.codec_context.frame_size
        self._waiting = np.zeros(0, np.float32)
        self._written = 0

    def _open_stream(self, recipe: _Recipe, bitrate: int | None) -> AudioStream:
        stream = self._container.add_stream(recipe.encoder, rate=self._rate, options=dict(recipe.encoder_options))
        assert isinstance(stream, AudioStream)
        stream.layout = "mono"
        stream.format = recipe.samples
        stream.codec_context.thread_count = 1
        if bitrate is not None:
            stream.bit_rate = bitrate
        # Ogg keeps tags with the stream, the others with the file.
        owner: Any = stream if recipe.muxer == "ogg" else self._container
        owner.metadata.update(SYNTHETIC_TAGS)
        return stream

    def encode(self, pcm: Float32) -> bytes:
        self._waiting = np.concatenate([self._waiting, pcm])
        whole = self._waiting.size - self._waiting.size % self._frame
        for begin in range(0, whole, self._frame):
            self._encode(self._waiting[begin : begin + self._frame])
        self._waiting = self._waiting[whole:]
        return self._sink.take()

    def finish(self) -> bytes:
        if self._waiting.size:
            self._encode(self._waiting)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()

    def _encode(self, pcm: Float32) -> None:
        samples = to_int16(pcm) if self._layout == "s16" else np.clip(pcm, -1.0, 1.0).astype(np.float32, copy=False)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format=self._layout, layout="mono")
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self._written, Fraction(1, self._rate)
        self._written += pcm.size
        self._container.mux(self._stream.encode(frame))
