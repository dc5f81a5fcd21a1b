"""Faster or slower speech at the same pitch, as a stream (FFmpeg's `atempo`: overlap-add of aligned windows)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from av.filter import Graph

from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import InvalidParameterError

if TYPE_CHECKING:
    from sled_tts.server.audio.encoder import AudioEncoder

MIN_SPEED, MAX_SPEED = 0.25, 4.0
# Beyond 2 one filter would drop samples instead of blending them; below 0.5 it refuses.
_STEP_MIN, _STEP_MAX = 0.5, 2.0


def check_speed(speed: float) -> None:
    """InvalidParameterError outside MIN_SPEED..MAX_SPEED, NaN included."""
    if not MIN_SPEED <= speed <= MAX_SPEED:
        raise InvalidParameterError(f"speed must be {MIN_SPEED}..{MAX_SPEED}, got {speed}", param="speed")


class Tempo:
    """Mono fp32 at `rate` Hz, played `speed` times as fast. Holds back a tenth of a second or two until `finish`."""

    def __init__(self, speed: float, rate: int) -> None:
        check_speed(speed)
        self._rate, self._speed = rate, speed
        self._graph = Graph()
        time_base = Fraction(1, rate)
        self._source = self._graph.add_abuffer(sample_rate=rate, format="flt", layout="mono", time_base=time_base)
        last = self._source
        for factor in _factors(speed):
            step = self._graph.add("atempo", f"{factor:.9f}")
            last.link_to(step)
            last = step
        self._sink = self._graph.add("abuffersink")
        last.link_to(self._sink)
        self._graph.configure()
        # Where the filter cuts depends on what it is given at once: always the same amount.
        self._block = rate // 100
        self._waiting = np.zeros(0, np.float32)
        self._heard = self._pushed = self._given = 0

    def write(self, pcm: Float32) -> Float32:
        """Samples `[N]` in, those that are ready out."""
        self._heard += pcm.size
        self._waiting = np.concatenate([self._waiting, pcm])
        whole = self._waiting.size - self._waiting.size % self._block
        for begin in range(0, whole, self._block):
            self._push(self._waiting[begin : begin + self._block])
        self._waiting = self._waiting[whole:]
        return self._pull()

    def finish(self) -> Float32:
        """The samples held back. All that was written is `round(samples / speed)` samples then."""
        # The filter forgets a part of its last window: let that be silence.
        self._push(np.concatenate([self._waiting, np.zeros(self._rate // 4, np.float32)]))
        self._source.push(None)
        left = round(self._heard / self._speed) - self._given
        return self._pull()[: max(0, left)]

    def _push(self, pcm: Float32) -> None:
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self._pushed, Fraction(1, self._rate)
        self._pushed += pcm.size
        self._source.push(frame)

    def _pull(self) -> Float32:
        parts: list[Float32] = [np.zeros(0, np.float32)]
        while True:
            try:
                frame = self._sink.pull()
            except (BlockingIOError, EOFError):
                ready = np.concatenate(parts)
                self._given += ready.size
                return ready
            assert isinstance(frame, av.AudioFrame)
            parts.append(frame.to_ndarray().reshape(-1).astype(np.float32, copy=False))


def _factors(speed: float) -> list[float]:
    """Steps that one filter can do, multiplied `speed`."""
    if _STEP_MIN <= speed <= _STEP_MAX:
        return [speed]
    return [speed**0.5] * 2


class TempoEncoder:
    """Another encoder, fed faster or slower speech."""

    heavy = True

    def __init__(self, inner: AudioEncoder, speed: float, rate: int) -> None:
        self._inner = inner
        self._tempo = Tempo(speed, rate)

    @property
    def media_type(self) -> str:
        return self._inner.media_type

    def encode(self, pcm: Float32) -> bytes:
        ready = self._tempo.write(pcm)
        return self._inner.encode(ready) if ready.size else b""

    def finish(self) -> bytes:
        rest = self._tempo.finish()
        return (self._inner.encode(rest) if rest.size else b"") + self._inner.finish()
