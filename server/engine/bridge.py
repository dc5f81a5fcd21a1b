"""Between asyncio and the engine thread: commands in through an inbox, events out through bounded queues.

Nothing here blocks the event loop: submitting takes a slot or raises, events arrive with one
`call_soon_threadsafe` a step, and a reader who is slow pauses its own stream only.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from sled_tts.server.engine.engine import Admit, Cancel, Engine, Release, Tokens, Wake
from sled_tts.server.engine.outlet import Outlet
from sled_tts.server.engine.request import Event, Failed, Finished, Mode, SynthesisRequest
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.engine.work import RunnerInfo
from sled_tts.server.errors import (
    InputTooLongError,
    InvalidParameterError,
    NotReadyError,
    OverCapacityError,
    ProtocolError,
    UnsupportedError,
)

log = logging.getLogger(__name__)


class UtteranceHandle:
    """One utterance as its reader sees it: push text, iterate over events, cancel. Belongs to one event loop.

    Iteration ends after the terminal event; `over` says that the engine is done with it. As an async context
    manager it cancels what has not ended.
    """

    def __init__(self, bridge: EngineBridge, request: SynthesisRequest, slot: int, max_unread: int) -> None:
        self.request = request
        self.request_id = request.request_id
        self._bridge = bridge
        self._slot = slot
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self._detached = False
        self.over = False
        self._text_ended = request.token_ids is not None
        self._tokens = len(request.token_ids or ())
        self.outlet = Outlet(self._enqueue, max_unread)

    def push_tokens(self, ids: Sequence[int], *, final: bool = False) -> None:
        """More text. Hand the last ids over with `final`, so that the engine knows the end when it reads them.

        Raises ProtocolError after the end of the text, InvalidParameterError for an id outside the vocabulary,
        InputTooLongError beyond the positions a stream has.
        """
        if self._text_ended:
            if ids:
                raise ProtocolError("text was sent after its end", param="text")
            return
        self._bridge.check_tokens(ids, self._tokens)
        self._tokens += len(ids)
        self._text_ended = final
        self._bridge.engine.post(Tokens(self._slot, self.outlet, tuple(ids), final))

    def end_text(self, ids: Sequence[int] = ()) -> None:
        """No more text after `ids`."""
        self.push_tokens(ids, final=True)

    def cancel(self) -> None:
        """Stop as soon as possible; a `Finished(cancelled)` follows unless the end was already under way."""
        if not self._ended:
            self._bridge.engine.post(Cancel(self._slot, self.outlet))

    def detach(self) -> None:
        """Cancel, and let whoever waits for an event go on at once; nothing is delivered any more."""
        self.cancel()
        self._events.clear()
        self._ended = self._detached = True
        self._arrived.set()

    @property
    def ended(self) -> bool:
        """Whether the terminal event has been read."""
        return self._ended and not self._events

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self.next_event()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next_event(self) -> Event | None:
        """The next event, or None after the terminal one and after `detach`."""
        while not self._events:
            if self._ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        event = self._events.popleft()
        if self.outlet.took(event):
            self._bridge.engine.post(Wake())
        return event

    async def __aenter__(self) -> UtteranceHandle:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _enqueue(self, event: Event) -> None:
        """Engine thread."""
        self._bridge.outbox.setdefault(self._loop, []).append((self, event))

    def receive(self, event: Event) -> None:
        """Event loop thread."""
        self.over = self.over or isinstance(event, Finished | Failed)
        if self._detached:
            return
        self._events.append(event)
        self._ended = self.over
        self._arrived.set()


def _receive_all(batch: list[tuple[UtteranceHandle, Event]]) -> None:
    for handle, event in batch:
        handle.receive(event)


@dataclass
class Lease:
    """A slot held for several requests in a row; nobody else can take it in between."""

    slot: int
    engine: Engine
    handle: UtteranceHandle | None = None
    released: bool = False

    def release(self) -> None:
        """Give the slot back; a request still on it is cancelled. Safe to call twice.

        When nothing is on it the slot is free on return, so that whoever has heard an end can start again at once.
        """
        if self.released:
            return
        self.released = True
        if self.handle is None or self.handle.over:
            self.engine.pool.release(self.slot)
        else:
            self.engine.post(Release(self.slot))


@dataclass
class EngineBridge:
    """Owns the engine thread. `max_unread_s` is how much audio a reader may leave unread before it is paused."""

    engine: Engine
    name: str = "engine"
    max_unread_s: float = 4.0
    outbox: dict[asyncio.AbstractEventLoop, list[tuple[UtteranceHandle, Event]]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _rejected: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.engine.flush = self._flush

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
        self.check(request)
        slot = self._acquire() if lease is None else lease.slot
        handle = UtteranceHandle(self, request, slot, self._max_unread)
        if lease is not None:
            lease.handle = handle
        self.engine.post(Admit(request, slot, handle.outlet, leased=lease is not None))
        return handle

    def run(self, request: SynthesisRequest) -> Iterator[Event]:
        """Blocking synthesis for callers without an event loop; `request.token_ids` must be given."""
        if request.token_ids is None:
            raise InvalidParameterError("blocking synthesis needs the whole text", param="token_ids")
        self.check(request)
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

    def check_tokens(self, ids: Sequence[int], before: int = 0) -> None:
        """Raise InvalidParameterError or InputTooLongError for ids that cannot be read after `before` others."""
        for token in ids:
            if not 0 <= token < self.info.vocab_size:
                raise InvalidParameterError(
                    f"token id {token} is outside 0..{self.info.vocab_size - 1}", param="tokens"
                )
        if before + len(ids) > self.info.positions:
            raise InputTooLongError(
                f"{before + len(ids)} tokens exceed the limit of {self.info.positions}", param="text"
            )

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

    def check(self, request: SynthesisRequest) -> None:
        """Raise UnsupportedError, InvalidParameterError or InputTooLongError for what cannot be synthesised here."""
        if request.mode is Mode.STREAMING and (request.n or self.info.n) is None:
            raise UnsupportedError("the loaded checkpoint is offline and cannot stream text", param="mode")
        if request.mode is Mode.OFFLINE and self.info.n is not None:
            raise UnsupportedError("the loaded checkpoint is a streaming one: use its n:m pacing", param="mode")
        prompt = request.prompt
        if prompt is not None and prompt.latents.shape[1] != self.info.latent_dim:
            raise InvalidParameterError(
                f"prompt latents are {prompt.latents.shape[1]} wide, not {self.info.latent_dim}", param="prompt"
            )
        self.check_tokens(request.token_ids or ())
        needed = len(request.token_ids or ()) + (prompt.frames if prompt else 0)
        if needed >= self.info.positions:
            raise InputTooLongError(
                f"text and prompt take {needed} positions; the limit is {self.info.positions - 1}", param="text"
            )

    def _run(self) -> None:
        try:
            self.engine.run(self._stop.is_set)
        finally:
            self._stop.set()
            self.engine.fail_all(NotReadyError("the engine has stopped"))

    def _flush(self) -> None:
        outbox, self.outbox = self.outbox, {}
        for loop, batch in outbox.items():
            try:
                loop.call_soon_threadsafe(_receive_all, batch)
            except RuntimeError:
                # The loop is closed: nobody will read these streams again.
                for handle, _ in batch:
                    handle.cancel()
