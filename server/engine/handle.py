"""One utterance on an event loop: text in, events out of a queue that the engine thread fills."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from sled_tts.server.engine.checks import check_tokens
from sled_tts.server.engine.commands import Cancel, Release, Tokens, Wake
from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.outlet import Outlet
from sled_tts.server.engine.request import Event, Failed, Finished, SynthesisRequest
from sled_tts.server.errors import ProtocolError


class UtteranceHandle:
    """One utterance as its reader sees it: push text, iterate over events, cancel. Belongs to one event loop.

    Iteration ends after the terminal event; `over` says that the engine is done with it. As an async context
    manager it cancels what has not ended.
    """

    def __init__(self, engine: Engine, outbox: Outbox, request: SynthesisRequest, slot: int, max_unread: int) -> None:
        self.request = request
        self.request_id = request.request_id
        self._engine = engine
        self._outbox = outbox
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
        check_tokens(self._engine.info, ids, self._tokens)
        self._tokens += len(ids)
        self._text_ended = final
        self._engine.post(Tokens(self._slot, self.outlet, tuple(ids), final))

    def end_text(self, ids: Sequence[int] = ()) -> None:
        """No more text after `ids`."""
        self.push_tokens(ids, final=True)

    def cancel(self) -> None:
        """Stop as soon as possible; a `Finished(cancelled)` follows unless the end was already under way."""
        if not self._ended:
            self._engine.post(Cancel(self._slot, self.outlet))

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
            self._engine.post(Wake())
        return event

    async def __aenter__(self) -> UtteranceHandle:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _enqueue(self, event: Event) -> None:
        """Engine thread."""
        self._outbox.put(self._loop, self, event)

    def receive(self, event: Event) -> None:
        """Event loop thread."""
        self.over = self.over or isinstance(event, Finished | Failed)
        if self._detached:
            return
        self._events.append(event)
        self._ended = self.over
        self._arrived.set()


class Outbox:
    """Events on their way to event loops: filled during a step, sent with one `call_soon_threadsafe` a loop."""

    def __init__(self) -> None:
        self._held: dict[asyncio.AbstractEventLoop, list[tuple[UtteranceHandle, Event]]] = {}

    def put(self, loop: asyncio.AbstractEventLoop, handle: UtteranceHandle, event: Event) -> None:
        """Engine thread: hold an event until the step is over."""
        self._held.setdefault(loop, []).append((handle, event))

    def flush(self) -> None:
        """Engine thread: send what is held."""
        held, self._held = self._held, {}
        for loop, batch in held.items():
            try:
                loop.call_soon_threadsafe(_receive_all, batch)
            except RuntimeError:
                # The loop is closed: nobody will read these streams again.
                for handle, _ in batch:
                    handle.cancel()


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
