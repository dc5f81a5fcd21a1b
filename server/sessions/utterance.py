"""An utterance on a live engine: the machine's requests go to a bridge, the bridge's events to whoever iterates."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from sled_tts.server.engine.bridge import EngineBridge
from sled_tts.server.engine.handle import Lease, UtteranceHandle
from sled_tts.server.engine.request import Event
from sled_tts.server.errors import IdleTimeoutError
from sled_tts.server.service import LoadedModel
from sled_tts.server.sessions.idle import IdleRules, IdleWatch
from sled_tts.server.sessions.machine import UtteranceMachine
from sled_tts.server.sessions.reading import Reader


class LiveUtterance:
    """Holds one slot from its creation to its terminal event (or `cancel`). Belongs to one event loop.

    Iterate it from one task; text may come from another. The iteration ends after the one terminal event.
    """

    def __init__(
        self,
        bridge: EngineBridge,
        lease: Lease,
        machine: UtteranceMachine,
        model: LoadedModel,
        by_sentence: bool,
        reader: Reader | None = None,
        idle: IdleRules | None = None,
    ) -> None:
        self.model = model
        self.by_sentence = by_sentence
        self._bridge = bridge
        self._lease = lease
        self._machine = machine
        self._reader = reader
        self._idle = IdleWatch(idle or IdleRules(), self._speak_what_is_there, self._give_up)
        self._handle: UtteranceHandle | None = None
        self._out: deque[Event] = deque()
        self._changed = asyncio.Event()

    @property
    def cfg_scale(self) -> float:
        return self._machine.voice.cfg_scale

    @property
    def segment(self) -> int | None:
        """The index of the segment that the events heard last belong to; None when it has ended."""
        return None if self._machine.active is None else self._machine.active.index

    def append(self, text: str) -> None:
        """More text. Raises TokenizerError, ProtocolError or UnsupportedError."""
        self._read(text)
        self._idle.restart()
        self._pump()

    def append_tokens(self, ids: Sequence[int]) -> None:
        """More text as subwords. Raises TokenizerError or ProtocolError."""
        self._read()
        self._machine.feed.append_tokens(ids)
        self._idle.restart()
        self._pump()

    def flush(self) -> None:
        """Speak what is there without waiting for more; text that follows opens a new segment."""
        self._read()
        self._machine.flush()
        self._out.extend(self._machine.flushed())
        self._pump()

    def close(self) -> None:
        """End of the text. It fails when all of it was in scripts that are not spoken."""
        self._read()
        self._machine.feed.close()
        if self._reader is not None and self._machine.feed.empty and (reason := self._reader.nothing_said()):
            self._emit(self._machine.fail(reason))
        self._pump()

    def cancel(self) -> None:
        """Stop at once and free the slot; safe to call at any time."""
        self._emit(self._machine.cancel())
        self._end()

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            while True:
                while self._out:
                    yield self._out.popleft()
                if self._machine.terminal is not None:
                    return
                if not self._machine.feed.closed:
                    self._idle.start()
                if self._handle is None:
                    self._changed.clear()
                    await self._changed.wait()
                else:
                    await self._listen(self._handle)
                self._idle.stop()
        finally:
            self.cancel()

    def _speak_what_is_there(self) -> None:
        self._read()
        # Nothing to end wakes nobody up: that would count as a sign of life.
        if self._machine.feed.open:
            self._machine.feed.flush()
            self._pump()

    def _give_up(self) -> None:
        if self._machine.active is not None:
            # What has been sent is spoken first.
            self._speak_what_is_there()
            self._idle.start()
        elif not self._machine.feed.closed:
            error = IdleTimeoutError(f"no text came for {self._idle.rules.close_s:g} s", param="text")
            self._emit(self._machine.fail(error))
            self._end()

    def _read(self, text: str | None = None) -> None:
        """Text through the reader, if there is one; None is all that it holds."""
        if self._reader is None or self._machine.feed.closed:
            if text is not None:
                self._machine.feed.append(text)
            return
        for piece in self._reader.flush() if text is None else self._reader.feed(text):
            self._machine.feed.append(piece.text, [(piece.begin, piece.end)] * len(piece.text))
        self._out.extend(self._reader.skipped)
        self._reader.skipped.clear()

    async def _listen(self, handle: UtteranceHandle) -> None:
        """One event of the active request; wakes up without one when `cancel` ends the utterance."""
        event = await handle.next_event()
        if event is None or self._machine.terminal is not None:
            return
        heard = self._machine.receive(event)
        if (words := self._machine.words()) is not None:
            self._out.append(words)
        if (pause := self._machine.pause()) is not None:
            self._out.append(pause)
        self._out.extend(self._machine.flushed())
        self._emit(heard)
        if self._machine.active is None:
            self._handle = None
            self._pump()

    def _pump(self) -> None:
        """Start the next request, push what is new to the active one, notice the end."""
        if self._machine.terminal is not None:
            return
        try:
            request = self._machine.next_request()
            if request is not None:
                self._handle = self._bridge.submit(request, self._lease)
            if self._handle is not None and (fresh := self._machine.fresh_tokens()) is not None:
                self._handle.push_tokens(fresh[0], final=fresh[1])
        except Exception as error:
            self._emit(self._machine.fail(error))
        self._emit(self._machine.settle())
        self._changed.set()

    def _emit(self, event: Event | None) -> None:
        if event is not None:
            self._out.append(event)
        if self._machine.terminal is not None:
            self._end()

    def _end(self) -> None:
        self._idle.stop()
        if self._handle is not None:
            self._handle.detach()
            self._handle = None
        self._lease.release()
        self._changed.set()
