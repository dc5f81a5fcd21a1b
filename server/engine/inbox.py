"""What other threads ask of the engine, from their `post` to the streams that it changes."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass, field

from sled_tts.server.engine.commands import Admit, Cancel, Command, Release, Wake
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.request import Failed, FinishReason
from sled_tts.server.engine.roster import Roster
from sled_tts.server.engine.streams import Stream

log = logging.getLogger(__name__)


@dataclass
class Inbox:
    """Commands are applied to `roster` by the engine's thread, between two steps."""

    roster: Roster
    budget: FrameBudget
    clock: Callable[[], float]
    _queue: queue.SimpleQueue[Command] = field(default_factory=queue.SimpleQueue, init=False)
    _arrivals: int = field(default=0, init=False)

    def post(self, command: Command) -> None:
        """Any thread. Never blocks."""
        self._queue.put(command)

    def take(self, refusal: Exception | None = None) -> None:
        """Apply all that is there; with a `refusal`, requests get that instead of a stream."""
        while True:
            try:
                command = self._queue.get_nowait()
            except queue.Empty:
                return
            if isinstance(command, Admit) and refusal is not None:
                if not command.leased:
                    self.roster.pool.release(command.slot)
                command.outlet.emit(Failed(refusal))
            else:
                self._apply(command)

    def sleep(self, seconds: float) -> None:
        """Wait for a command, at most so long, and apply it."""
        try:
            command = self._queue.get(timeout=seconds)
        except queue.Empty:
            return
        self._apply(command)

    def _apply(self, command: Command) -> None:
        roster = self.roster
        if isinstance(command, Admit):
            self._admit(command)
            return
        if isinstance(command, Wake):
            return
        if isinstance(command, Release):
            if (held := roster.streams.get(command.slot)) is not None:
                roster.finish(held, FinishReason.CANCELLED)
            roster.pool.release(command.slot)
            return
        stream = roster.streams.get(command.slot)
        # The stream may have ended, and its slot gone to another, while this command was under way.
        if stream is None or stream.outlet is not command.outlet:
            return
        if isinstance(command, Cancel):
            roster.finish(stream, FinishReason.CANCELLED)
            return
        try:
            stream.push(command.ids, command.final, self.clock())
        except Exception as error:
            roster.end(stream, Failed(error))

    def _admit(self, command: Admit) -> None:
        roster, request = self.roster, command.request
        info = roster.runner.info
        stream = Stream(request, command.slot, self._arrivals, info, self.budget, command.outlet, command.leased)
        self._arrivals += 1
        roster.streams[command.slot] = stream
        roster.stats.admitted += 1
        try:
            stream.behind = roster.runner.open(command.slot, request)
            if request.token_ids is not None:
                stream.push(request.token_ids, True, self.clock())
        except Exception as error:
            log.exception("request %s could not be opened", request.request_id)
            roster.end(stream, Failed(error))
