"""Prometheus metrics in a registry of their own, so that two servers in one process do not share counters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.errors import reply_for

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.4, 0.8, 1.6, 3.2, 10.0)
# 50 ms is what an interruption may take.
_SILENCE = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_RTF = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0, 10.0)


_Read = TypeVar("_Read")


class _Scraped(Collector, Generic[_Read]):
    """What others count, read when scraped."""

    def __init__(self, read: Callable[[], dict[str, _Read]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        return []


class EngineCollector(_Scraped[EngineStats]):
    """The engines' own counters."""

    def collect(self) -> Iterator[Metric]:
        stats = self._read()
        for kind, rows in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name, text, value in rows:
                family = kind(name, text, labels=["model"])
                for model, one in stats.items():
                    family.add_metric([model], value(one))
                yield family
        steps = HistogramMetricFamily("sled_tts_engine_step_seconds", "One batched step", labels=["model"])
        for model, one in stats.items():
            steps.add_metric([model], list(_buckets(one)), one.step_time.total)
        yield steps


class CloneCollector(_Scraped[int]):
    """How often cloned voices have spoken."""

    def collect(self) -> Iterator[Metric]:
        uses = CounterMetricFamily(
            "sled_tts_cloned_utterances", "Utterances begun with a cloned voice", labels=["source"]
        )
        for source, count in self._read().items():
            uses.add_metric([source], count)
        yield uses


def _buckets(stats: EngineStats) -> Iterator[tuple[str, float]]:
    running = 0
    bounds = [str(bound) for bound in stats.step_time.bounds] + ["+Inf"]
    for bound, count in zip(bounds, stats.step_time.counts, strict=True):
        running += count
        yield bound, float(running)


_Row = tuple[str, str, Callable[[EngineStats], float]]
_GAUGES: tuple[_Row, ...] = (
    ("sled_tts_slots", "Streams that can run at once", lambda s: s.slots),
    ("sled_tts_slots_in_use", "Slots taken", lambda s: s.in_use),
    ("sled_tts_kv_bytes", "Memory that all slots can fill", lambda s: s.kv_bytes),
    ("sled_tts_kv_bytes_in_use", "Memory of the slots taken", lambda s: s.kv_bytes_in_use),
    # There is no request queue: a request gets a slot or a 503. What can wait is a stream that is due a step.
    ("sled_tts_queue", "Streams that were ready for the last step", lambda s: s.runnable),
)
_COUNTERS: tuple[_Row, ...] = (
    ("sled_tts_engine_admitted", "Utterances given a slot", lambda s: s.admitted),
    ("sled_tts_engine_rejected", "Utterances refused for want of a slot", lambda s: s.rejected),
    ("sled_tts_engine_steps", "Batched steps", lambda s: s.steps),
    ("sled_tts_engine_rows", "Streams stepped, summed over steps", lambda s: s.rows),
    ("sled_tts_engine_frames", "Latents spoken", lambda s: s.frames),
    ("sled_tts_engine_audio_seconds", "Audio delivered", lambda s: s.audio_s),
    ("sled_tts_engine_busy_seconds", "Time in steps and decoding", lambda s: s.busy_s),
    ("sled_tts_engine_underruns", "Times a listener must have run dry", lambda s: s.underruns),
    ("sled_tts_engine_starvations", "Times a stream had to wait for text", lambda s: s.starvations),
    ("sled_tts_engine_step_errors", "Steps or decodings that failed", lambda s: s.step_errors),
)


class Metrics:
    """Everything `/metrics` shows. `route` is `speech` or `stream`."""

    def __init__(
        self,
        engine_stats: Callable[[], dict[str, EngineStats]],
        clone_uses: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        route = ["route"]
        self.ttfa = Histogram(
            "sled_tts_ttfa_seconds", "First text at the server to first audio handed to the socket", route,
            buckets=_SECONDS, registry=own,
        )  # fmt: skip
        self.rtf = Histogram(
            "sled_tts_rtf", "Engine time over audio time, by utterance", route, buckets=_RTF, registry=own
        )
        self.gap = Histogram("sled_tts_chunk_gap_seconds", "Between two chunks", route, buckets=_SECONDS, registry=own)
        self.silence = Histogram(
            "sled_tts_interruption_seconds", "Cancel, clear, close or disconnect read from the socket to the last byte "
            "of that utterance, its slot being free", route, buckets=_SILENCE, registry=own,
        )  # fmt: skip
        self.active = Gauge("sled_tts_active_streams", "Utterances under way", route, registry=own)
        self.connections = Gauge("sled_tts_websocket_connections", "Open WebSockets", registry=own)
        self.finished = Counter("sled_tts_utterances", "Ended utterances", ["route", "reason"], registry=own)
        self.errors = Counter("sled_tts_errors", "Errors answered", ["route", "code"], registry=own)
        self.registry.register(EngineCollector(engine_stats))
        self.registry.register(CloneCollector(clone_uses))

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def error(self, route: str, error: BaseException) -> None:
        self.errors.labels(route, reply_for(error).code).inc()

    def silenced(self, route: str, heard_at: float) -> float:
        """An interruption that was read at `heard_at` (of `time.monotonic`) has taken effect; seconds it took."""
        took_s = time.monotonic() - heard_at
        self.silence.labels(route).observe(took_s)
        return took_s


@dataclass
class UtteranceMeter:
    """Observes one utterance on one route; a context manager, so that every ending is counted exactly once.

    `cancel_s`: how long an interruption took, from the frame that asked for it to the last byte sent.
    """

    metrics: Metrics
    route: str
    ttfa_s: float | None = None
    cancel_s: float | None = field(default=None, init=False)
    _interrupted_at: float | None = field(default=None, init=False)
    _text_at: float | None = field(default=None, init=False)
    _chunk_at: float | None = field(default=None, init=False)
    _reason: str = field(default="disconnected", init=False)

    def __enter__(self) -> UtteranceMeter:
        self.metrics.active.labels(self.route).inc()
        return self

    def __exit__(self, *_: object) -> None:
        self._silenced()
        self.metrics.active.labels(self.route).dec()
        self.metrics.finished.labels(self.route, self._reason).inc()

    def text(self) -> None:
        """Text has arrived; the first call starts the TTFA clock."""
        if self._text_at is None:
            self._text_at = time.perf_counter()

    def interrupted(self, heard_at: float) -> None:
        """The listener wants to hear no more; the frame that says so was read at `heard_at` (of `time.monotonic`)."""
        if self._interrupted_at is None:
            self._interrupted_at = heard_at

    def _silenced(self) -> None:
        if self._interrupted_at is not None and self.cancel_s is None:
            self.cancel_s = self.metrics.silenced(self.route, self._interrupted_at)

    def sent(self) -> None:
        """A chunk has been handed to the socket."""
        now = time.perf_counter()
        if self._chunk_at is not None:
            self.metrics.gap.labels(self.route).observe(now - self._chunk_at)
        elif self._text_at is not None:
            self.ttfa_s = now - self._text_at
            self.metrics.ttfa.labels(self.route).observe(self.ttfa_s)
        self._chunk_at = now

    def event(self, event: Event) -> None:
        """Every event of the utterance, once."""
        if isinstance(event, AudioChunk):
            return
        if isinstance(event, Finished):
            # Sending is over: whoever forwards events waits for each of them to be sent.
            self._silenced()
            self._reason = str(event.reason)
            if event.rtf is not None:
                self.metrics.rtf.labels(self.route).observe(event.rtf)
        elif isinstance(event, Failed):
            self._reason = "failed"
