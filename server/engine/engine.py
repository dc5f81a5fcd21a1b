"""The loop: take commands, choose streams, step them together, decode what is due, hand out events.

Everything here runs on one thread; other threads only `post` commands, which `inbox` applies. Which streams are live,
and how they end, is in `roster`. No asyncio, no torch.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.commands import Command
from sled_tts.server.engine.delivery import Delivery, engine_error
from sled_tts.server.engine.inbox import Inbox
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.pipeline import Launched, device_of
from sled_tts.server.engine.request import Failed, FinishReason, TextStarved
from sled_tts.server.engine.roster import Roster
from sled_tts.server.engine.scheduler import Policy
from sled_tts.server.engine.slots import SlotPool
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.engine.streams import Readiness, Stream
from sled_tts.server.engine.work import RowOutcome, StepRunner
from sled_tts.server.errors import EngineError, SlowReaderError

log = logging.getLogger(__name__)

_DECODES_UNDER_WAY = 4


@dataclass
class Engine:
    """All live streams of one runner. `flush` is called once a step, after its events were emitted."""

    runner: StepRunner
    policy: Policy
    chunks: ChunkPolicy
    budget: FrameBudget
    clock: Callable[[], float] = time.perf_counter
    slow_reader_timeout_s: float = 60.0
    flush: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.info = self.runner.info
        self.pool = SlotPool(self.info.slots)
        self.stats = EngineStats(self.info.slots, stream_bytes=self.info.stream_bytes)
        self.device = device_of(self.runner)
        self.delivery = Delivery(self.runner, self.device, self.chunks, self.stats, self.clock)
        self.roster = Roster(self.runner, self.pool, self.delivery, self.stats)
        self.inbox = Inbox(self.roster, self.budget, self.clock)
        self._launched: deque[Launched] = deque()
        self._settled_at = -math.inf

    def post(self, command: Command) -> None:
        """Any thread: queue a command. Never blocks; bounded by slots and by each session's text limit."""
        self.inbox.post(command)

    @property
    def streams(self) -> dict[int, Stream]:
        """All that are live, by slot."""
        return self.roster.streams

    def step(self) -> bool:
        """One turn of the loop; False when no stream could run and nothing was under way."""
        self.inbox.take()
        try:
            runnable = self._runnable()
            self.stats.runnable = len(runnable)
            chosen = self._choose(runnable)
            busy = bool(chosen or self._launched or self.delivery.under_way)
            if chosen:
                self._launch(chosen)
            lag = self.device.lag if chosen else 0
            self._settle(lag)
            # Decodes are heard as soon as they are done; a few may take longer than a step.
            self.roster.hear(_DECODES_UNDER_WAY if lag else 0)
        finally:
            self.stats.in_use = self.pool.in_use
            self.flush()
        return busy

    def run(self, stopping: Callable[[], bool], idle_s: float = 0.5) -> None:
        """Step until told to stop; sleeps on the inbox when nothing can run.

        A fault outside one stream's own work fails all streams and the loop goes on; if it strikes again before any
        step has succeeded it is raised, which ends the thread and with it readiness.
        """
        faulted_at = -1
        while not stopping():
            try:
                if not self.step() and not stopping():
                    self.inbox.sleep(idle_s)
            except Exception as error:
                log.exception("the engine loop failed; every stream is ended")
                self.fail_all(engine_error(error))
                if faulted_at == self.stats.steps:
                    raise
                faulted_at = self.stats.steps

    def fail_all(self, error: Exception) -> None:
        """End every stream, and every request still in the inbox, with an error."""
        self.inbox.take(refusal=error)
        self._launched.clear()
        self.roster.fail_all(error)
        self.flush()

    def _runnable(self) -> list[Stream]:
        now = self.clock()
        runnable = []
        for stream in list(self.streams.values()):
            if stream.complete:
                continue
            if not stream.outlet.check_room():
                if stream.unread_for(now) > self.slow_reader_timeout_s:
                    error = SlowReaderError(f"no audio was read for {self.slow_reader_timeout_s:g} s")
                    self.roster.end(stream, Failed(error))
                continue
            stream.blocked_since = None
            readiness = stream.advance()
            if readiness is Readiness.READY:
                stream.starving = False
                if stream.ready_since is None:
                    stream.ready_since = now
                runnable.append(stream)
            elif stream.under_way:
                continue
            elif readiness is Readiness.EXHAUSTED:
                self.roster.finish(stream, FinishReason.LENGTH)
            else:
                self._starve(stream)
        return runnable

    def _starve(self, stream: Stream) -> None:
        stream.ready_since = None
        if not stream.starving and stream.frames:
            stream.outlet.emit(TextStarved(stream.frames))
            self.stats.starvations += 1
        stream.starving = True

    def _choose(self, runnable: Sequence[Stream]) -> list[Stream]:
        now = self.clock()
        chosen = set(self.policy.choose([stream.candidate(now) for stream in runnable]))
        for stream in runnable:
            stream.passed_over = 0 if stream.slot in chosen else stream.passed_over + 1
        # Slot order keeps rows where they were, which is what a device's caches like best.
        return sorted((s for s in runnable if s.slot in chosen), key=lambda s: s.slot)

    def _launch(self, chosen: Sequence[Stream]) -> None:
        began = self.clock()
        try:
            outcomes = self.device.launch([stream.work() for stream in chosen])
        except Exception as error:
            self._step_failed(chosen, error)
            return
        for stream in chosen:
            stream.launched()
        self._launched.append(Launched(chosen, outcomes, began))

    def _step_failed(self, streams: Sequence[Stream], error: Exception) -> None:
        """The forward pass is shared, so every stream in it may hold half-written state."""
        log.error("a step of %d streams failed", len(streams), exc_info=error)
        self.stats.step_errors += 1
        for stream in streams:
            if not stream.over:
                self.roster.end(stream, Failed(engine_error(error)))

    def _settle(self, leave: int) -> None:
        """Take in the outcomes of all launched steps but the last `leave`."""
        while len(self._launched) > leave:
            step = self._launched.popleft()
            try:
                outcomes = step.outcomes.wait()
            except Exception as error:
                self._step_failed(step.streams, error)
                continue
            self._sampled(step, outcomes)

    def _sampled(self, step: Launched, outcomes: Sequence[RowOutcome]) -> None:
        live = []
        for stream, outcome in zip(step.streams, outcomes, strict=True):
            if stream.over or stream.ending is not None:  # one frame too many
                continue
            if outcome is RowOutcome.INVALID:
                self.roster.end(stream, Failed(EngineError("the model produced numbers that are not finite")))
                continue
            said = stream.frames
            reason = stream.sampled(outcome)
            if stream.frames > said and stream.request.follow_text:
                stream.noticed(self.runner.looked(stream.slot))
            live.append(stream)
            if reason is not None:
                self.roster.close(stream, reason)
        self.roster.decode(live)
        now = self.clock()
        for stream in live:
            stream.busy_s += now - (stream.ready_since if stream.ready_since is not None else step.began)
            stream.ready_since = now
        # A step's own time begins where the one before it ended, if that was later than its launch.
        took = now - max(step.began, self._settled_at)
        self._settled_at = now
        self.stats.steps += 1
        self.stats.rows += len(step.streams)
        self.stats.busy_s += took
        self.stats.step_time.observe(took)
