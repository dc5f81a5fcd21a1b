"""What a listener hears: FFmpeg's decoders, independent of how the stream was made."""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt
import soxr

from sled_tts.server.audio.encoder import AudioEncoder

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Heard:
    """Decoded mono samples `[N]` at `rate` Hz and the tags of the file."""

    pcm: Samples
    rate: int
    tags: dict[str, str]

    def at(self, rate: int) -> Samples:
        return self.pcm if rate == self.rate else np.asarray(soxr.resample(self.pcm, self.rate, rate), np.float32)


def hear(data: bytes) -> Heard:
    """Decode a whole file or stream."""
    parts: list[Samples] = [np.zeros(0, np.float32)]
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        for frame in container.decode(stream):
            samples = frame.to_ndarray().reshape(-1)
            scale = float(np.iinfo(samples.dtype).max) if samples.dtype.kind == "i" else 1.0
            parts.append((samples / scale).astype(np.float32))
        tags = {**container.metadata, **stream.metadata}
        return Heard(np.concatenate(parts), stream.rate, tags)


def encoded(encoder: AudioEncoder, pcm: Samples, step: int) -> bytes:
    """A whole stream, fed `step` samples at a time."""
    parts = [encoder.encode(pcm[begin : begin + step]) for begin in range(0, pcm.size, step)]
    return b"".join(parts) + encoder.finish()


def snr_db(heard: Samples, sent: Samples) -> float:
    """Of two aligned signals, over the length of the shorter."""
    size = min(heard.size, sent.size)
    error = heard[:size].astype(np.float64) - sent[:size]
    return float(10 * np.log10(np.square(sent[:size].astype(np.float64)).sum() / max(np.square(error).sum(), 1e-20)))


def sweep(rate: int, seconds: float) -> Samples:
    """A tone that rises from 200 Hz, which correlates with itself at one place only, and ends as quietly as speech."""
    time = np.arange(round(rate * seconds)) / rate
    ending = np.clip((seconds - time) / 0.01, 0.0, 1.0)
    return (0.4 * ending * np.sin(2 * np.pi * (200 + 300 * time) * time)).astype(np.float32)


def lag(heard: Samples, sent: Samples, most: int) -> int:
    """By how many samples `heard` comes after `sent` (0..most), by correlation in the middle."""
    begin, size = sent.size // 3, sent.size // 3
    return int(np.argmax(np.correlate(heard[begin : begin + size + most], sent[begin : begin + size], "valid")))
