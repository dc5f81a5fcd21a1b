"""The loop: take commands, choose streams, step them together, decode what is due, hand out events.

Everything here runs on one thread; other threads only `post` commands. No asyncio, no torch.
"""

from __future__ import annotations

import logging
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.commands import Admit, Cancel, Command, Release, Wake
from sled_tts.server.engine.delivery import Delivery, engine_error
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.pipeline import Launched, device_of
from sled_tts.server.engine.request import (
    Failed,
    FinishReason,
    Terminal,
    TextStarved,
)
from sled_tts.server.engine.scheduler import Policy
from sled_tts.server.engine.slots import SlotPool
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.engine.streams import Readiness, Stream
from sled_tts.server.engine.work import RowOutcome, StepRunner
from sled_tts.server.errors import EngineError, NotReadyError, SlowReaderError

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
    streams: dict[int, Stream] = field(default_factory=dict, init=False)
    inbox: queue.SimpleQueue[Command] = field(default_factory=queue.SimpleQueue, init=False)

    def __post_init__(self) -> None:
        self.info = self.runner.info
        self.pool = SlotPool(self.info.slots)
        self.stats = EngineStats(self.info.slots, stream_bytes=self.info.stream_bytes)
        self.device = device_of(self.runner)
        self.delivery = Delivery(self.runner, self.device, self.chunks, self.stats, self.clock)
        self._launched: deque[Launched] = deque()
        self._ending: list[Stream] = []
        self._arrivals = 0
        self._settled_at = -math.inf

    def post(self, command: Command) -> None:
        """Any thread: queue a command. Never blocks; bounded by slots and by each session's text limit."""
        self.inbox.put(command)

    def step(self) -> bool:
        """One turn of the loop; False when no stream could run and nothing was under way."""
        self._take_commands()
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
            self._hear(_DECODES_UNDER_WAY if lag else 0)
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
                    self._sleep(idle_s)
            except Exception as error:
                log.exception("the engine loop failed; every stream is ended")
                self.fail_all(engine_error(error))
                if faulted_at == self.stats.steps:
                    raise
                faulted_at = self.stats.steps

    def _sleep(self, seconds: float) -> None:
        try:
            command = self.inbox.get(timeout=seconds)
        except queue.Empty:
            return
        self._apply(command)

    def fail_all(self, error: Exception) -> None:
        """End every stream, and every request still in the inbox, with an error."""
        self._take_commands(admit=False, refusal=error)
        self._launched.clear()
        self._ending.clear()
        self.delivery.forget()
        for stream in list(self.streams.values()):
            self._end(stream, Failed(error))
        self.flush()

    def _take_commands(self, admit: bool = True, refusal: Exception | None = None) -> None:
        while True:
            try:
                command = self.inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(command, Admit) and not admit:
                if not command.leased:
                    self.pool.release(command.slot)
                command.outlet.emit(Failed(refusal or NotReadyError("the engine is not taking requests")))
            else:
                self._apply(command)

    def _apply(self, command: Command) -> None:
        if isinstance(command, Admit):
            self._admit(command)
            return
        if isinstance(command, Wake):
            return
        if isinstance(command, Release):
            if (held := self.streams.get(command.slot)) is not None:
                self._finish(held, FinishReason.CANCELLED)
            self.pool.release(command.slot)
            return
        stream = self.streams.get(command.slot)
        # The stream may have ended, and its slot gone to another, while this command was under way.
        if stream is None or stream.outlet is not command.outlet:
            return
        if isinstance(command, Cancel):
            self._finish(stream, FinishReason.CANCELLED)
            return
        try:
            stream.push(command.ids, command.final, self.clock())
        except Exception as error:
            self._end(stream, Failed(error))

    def _admit(self, command: Admit) -> None:
        request = command.request
        stream = Stream(request, command.slot, self._arrivals, self.info, self.budget, command.outlet, command.leased)
        self._arrivals += 1
        self.streams[command.slot] = stream
        self.stats.admitted += 1
        try:
            self.runner.open(command.slot, request)
            if request.token_ids is not None:
                stream.push(request.token_ids, True, self.clock())
        except Exception as error:
            log.exception("request %s could not be opened", request.request_id)
            self._end(stream, Failed(error))

    def _runnable(self) -> list[Stream]:
        now = self.clock()
        runnable = []
        for stream in list(self.streams.values()):
            if stream.complete:
                continue
            if not stream.outlet.check_room():
                if stream.unread_for(now) > self.slow_reader_timeout_s:
                    error = SlowReaderError(f"no audio was read for {self.slow_reader_timeout_s:g} s")
                    self._end(stream, Failed(error))
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
                self._finish(stream, FinishReason.LENGTH)
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
                self._end(stream, Failed(engine_error(error)))

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
                self._end(stream, Failed(EngineError("the model produced numbers that are not finite")))
                continue
            said = stream.frames
            reason = stream.sampled(outcome)
            if stream.frames > said and stream.request.follow_text:
                stream.noticed(self.runner.looked(stream.slot))
            live.append(stream)
            if reason is not None:
                self._close(stream, reason)
        self._decode(live)
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

    def _decode(self, streams: Sequence[Stream]) -> None:
        self._decode_failed(self.delivery.launch(streams))

    def _decode_failed(self, failed: Sequence[tuple[Stream, EngineError]]) -> None:
        for stream, error in failed:
            if not stream.over:  # several of its decodes may have failed
                self._end(stream, Failed(error))

    def _hear(self, leave: int) -> None:
        """Hand out what has been decoded, then end the streams that have no more to come."""
        self._decode_failed(self.delivery.collect(leave))
        waiting, self._ending = self._ending, []
        for stream in waiting:
            if stream.over:
                continue
            if stream.decoding or stream.ending is None:
                self._ending.append(stream)
            else:
                self._end(stream, self.delivery.summary(stream, stream.ending))

    def _close(self, stream: Stream, reason: FinishReason) -> None:
        """Nothing more will be said; the stream ends when all that was said has been heard."""
        stream.ending = reason
        self._ending.append(stream)

    def _finish(self, stream: Stream, reason: FinishReason) -> None:
        """End a stream outside a step; what it has said and not yet decoded is delivered unless cancelled."""
        if reason is FinishReason.CANCELLED:
            self._end(stream, self.delivery.summary(stream, reason))
            return
        self._close(stream, reason)
        self._decode([stream])

    def _end(self, stream: Stream, event: Terminal) -> None:
        """Free the slot first: whoever hears the end may start the next utterance at once."""
        del self.streams[stream.slot]
        stream.over = True
        try:
            self.runner.close(stream.slot)
        finally:
            if not stream.leased:
                self.pool.release(stream.slot)
            self.stats.ended(event)
            stream.outlet.emit(event)
