"""What the engine has done so far, as plain numbers for metrics and logs."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace

from sled_tts.server.engine.request import Failed, FinishReason, Terminal

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0)


@dataclass
class Histogram:
    """Counts a bucket (the last one is everything above `bounds`), and the sum of all observations, in seconds."""

    bounds: tuple[float, ...] = _SECONDS
    counts: list[int] = field(default_factory=lambda: [0] * (len(_SECONDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)


@dataclass
class EngineStats:
    """Totals since start, and the two gauges `in_use` and `runnable`.

    `steps` counts forward passes, `rows` streams stepped in them, `frames` spoken latents, `audio_s` seconds of PCM
    delivered, `busy_s` time in steps and decoding, `underruns` times a listener must have run dry, `stream_bytes` the
    memory of a slot.
    """

    slots: int
    in_use: int = 0
    runnable: int = 0
    admitted: int = 0
    rejected: int = 0
    steps: int = 0
    rows: int = 0
    frames: int = 0
    audio_s: float = 0.0
    busy_s: float = 0.0
    underruns: int = 0
    starvations: int = 0
    step_errors: int = 0
    stream_bytes: int = 0
    finished: dict[str, int] = field(default_factory=lambda: {str(r): 0 for r in FinishReason} | {"failed": 0})
    ttfa: Histogram = field(default_factory=Histogram)
    step_time: Histogram = field(default_factory=Histogram)

    @property
    def kv_bytes(self) -> int:
        """Memory that all slots can fill."""
        return self.slots * self.stream_bytes

    @property
    def kv_bytes_in_use(self) -> int:
        """Memory set aside for slots that are taken."""
        return self.in_use * self.stream_bytes

    def ended(self, event: Terminal) -> None:
        self.finished["failed" if isinstance(event, Failed) else str(event.reason)] += 1

    def copy(self) -> EngineStats:
        """A snapshot that later steps do not change."""
        return replace(
            self,
            finished=dict(self.finished),
            ttfa=replace(self.ttfa, counts=list(self.ttfa.counts)),
            step_time=replace(self.step_time, counts=list(self.step_time.counts)),
        )
