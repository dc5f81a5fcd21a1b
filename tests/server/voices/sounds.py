"""Recordings as people upload them, good and bad, made on the spot."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile

Wave = npt.NDArray[np.float32]


def voiced(seconds: float, rate: int = 16_000, level_db: float = -20.0, pitch: float = 150.0) -> Wave:
    """Harmonics under syllables of 5 Hz: level, gaps and spectrum of speech. `level_db` is its RMS."""
    time = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * pitch * k * time + k * k) / k for k in range(1, 12) if pitch * k < rate / 2)
    wave = wave * (0.15 + np.sin(np.pi * 5 * time) ** 2)
    return np.asarray(wave * 10 ** (level_db / 20) / np.sqrt(np.mean(wave**2)), dtype=np.float32)


def silence(seconds: float, rate: int = 16_000, level_db: float = -75.0) -> Wave:
    """The noise of a quiet room."""
    noise = np.random.default_rng(0).normal(0, 10 ** (level_db / 20), int(seconds * rate))
    return noise.astype(np.float32)


def encoded(wave: Any, rate: int = 16_000, form: str = "WAV", subtype: str | None = None) -> bytes:
    """`[N]` or `[N, channels]` in a container of libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=form, subtype=subtype)
    return file.getvalue()


def muxed(wave: Wave, rate: int, container: str, codec: str) -> bytes:
    """`[N]` in a container of FFmpeg."""
    file = io.BytesIO()
    with av.open(file, mode="w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=1024)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for ready in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(ready))
        out.mux(stream.encode(None))
    return file.getvalue()


def film() -> bytes:
    """Pictures without sound."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    return file.getvalue()
