"""Between asyncio and the engine thread: commands in through an inbox, events out through bounded queues.

Nothing here blocks the event loop: submitting takes a slot or raises, events arrive with one
`call_soon_threadsafe` a step, and a reader who is slow pauses its own stream only.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from sled_tts.server.engine.checks import check_request
from sled_tts.server.engine.commands import Admit, Cancel, Wake
from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.handle import Lease, Outbox, UtteranceHandle
from sled_tts.server.engine.outlet import Outlet
from sled_tts.server.engine.request import Event, Failed, Finished, SynthesisRequest
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.engine.work import RunnerInfo
from sled_tts.server.errors import (
    InvalidParameterError,
    NotReadyError,
    OverCapacityError,
)

log = logging.getLogger(__name__)


@dataclass
class EngineBridge:
    """Owns the engine thread. `max_unread_s` is how much audio a reader may leave unread before it is paused."""

    engine: Engine
    name: str = "engine"
    max_unread_s: float = 4.0
    outbox: Outbox = field(default_factory=Outbox, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _rejected: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.engine.flush = self.outbox.flush

    @property
    def info(self) -> RunnerInfo:
        return self.engine.info

    @property
    def alive(self) -> bool:
        """Whether the engine thread runs; readiness needs it."""
        return self._thread is not None and self._thread.is_alive() and not self._stop.is_set()

    def start(self) -> None:
        """Start the thread. Raises RuntimeError when it was started before."""
        if self._thread is not None:
            raise RuntimeError("the engine thread was already started")
        self._thread = threading.Thread(target=self._run, name=f"sled-tts-{self.name}", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """End every utterance with NotReadyError and stop the thread."""
        self._stop.set()
        self.engine.post(Wake())
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.error("the engine thread did not stop within %g s", timeout_s)

    def lease(self) -> Lease:
        """Hold a slot for requests that follow one another. Raises OverCapacityError at once when none is free."""
        return Lease(self._acquire(), self.engine)

    def submit(self, request: SynthesisRequest, lease: Lease | None = None) -> UtteranceHandle:
        """Start an utterance on this event loop, on a leased slot (whose last request has ended) or on a free one.

        Raises OverCapacityError at once when no slot is free, NotReadyError when the engine is down, and request
        errors for what the loaded checkpoint cannot do.
        """
        if not self.alive:
            raise NotReadyError("the engine is not running")
        check_request(self.info, request)
        slot = self._acquire() if lease is None else lease.slot
        handle = UtteranceHandle(self.engine, self.outbox, request, slot, self._max_unread)
        if lease is not None:
            lease.handle = handle
        self.engine.post(Admit(request, slot, handle.outlet, leased=lease is not None))
        return handle

    def run(self, request: SynthesisRequest) -> Iterator[Event]:
        """Blocking synthesis for callers without an event loop; `request.token_ids` must be given."""
        if request.token_ids is None:
            raise InvalidParameterError("blocking synthesis needs the whole text", param="token_ids")
        check_request(self.info, request)
        slot = self._acquire()
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        outlet = Outlet(events.put, self._max_unread)
        self.engine.post(Admit(request, slot, outlet))
        try:
            while True:
                try:
                    event = events.get(timeout=1.0)
                except queue.Empty:
                    if self.alive:
                        continue
                    raise NotReadyError("the engine stopped") from None
                if outlet.took(event):
                    self.engine.post(Wake())
                yield event
                if isinstance(event, Finished | Failed):
                    return
        finally:
            self.engine.post(Cancel(slot, outlet))

    def stats(self) -> EngineStats:
        """A snapshot of the engine's counters."""
        snapshot = self.engine.stats.copy()
        snapshot.in_use = self.engine.pool.in_use
        snapshot.rejected = self._rejected
        return snapshot

    @property
    def _max_unread(self) -> int:
        return max(self.info.first_chunk_frames, round(self.max_unread_s * self.info.frame_rate))

    def _acquire(self) -> int:
        if not self.alive:
            raise NotReadyError("the engine is not running")
        try:
            return self.engine.pool.acquire()
        except OverCapacityError:
            self._rejected += 1
            raise

    def _run(self) -> None:
        try:
            self.engine.run(self._stop.is_set)
        finally:
            self._stop.set()
            self.engine.fail_all(NotReadyError("the engine has stopped"))
