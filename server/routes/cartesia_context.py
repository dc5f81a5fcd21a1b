"""A Cartesia context without I/O: requests and time in, what the utterance has to do out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sled_tts.server.errors import InputTooLongError, ProtocolError
from sled_tts.server.routes.cartesia_messages import Generate

# How long text may be held back when a client does not say, as the service documents it.
_BUFFER_DELAY_MS = 3_000


@dataclass(frozen=True)
class Say:
    """More text for the utterance."""

    text: str


@dataclass(frozen=True)
class Flush:
    """Speak what is there."""


@dataclass(frozen=True)
class FlushDone:
    """Nothing was waiting: a flush is answered at once."""

    flush_id: int


@dataclass(frozen=True)
class End:
    """No more text."""


Action = Say | Flush | FlushDone | End


@dataclass
class CartesiaContext:
    """One context. `first` is the request that opened it: later ones bring text only, since clients repeat (and the
    SDK's last message even falsifies) voice and format.

    `started` once there is something to say; times in seconds on the caller's clock.
    """

    context_id: str
    first: Generate
    max_chars: int
    started: bool = field(default=False, init=False)
    ended: bool = field(default=False, init=False)
    cancelled: bool = field(default=False, init=False)
    heard_at: float = field(default=0.0, init=False)
    _chars: int = field(default=0, init=False)
    _held_since: float | None = field(default=None, init=False)
    _flushes: deque[bool] = field(default_factory=deque, init=False)
    _answered: int = field(default=0, init=False)

    def take(self, request: Generate, now: float) -> list[Action]:
        """A request for this context. Raises ProtocolError after its end, InputTooLongError."""
        if self.ended and not request.transcript.strip():
            # Said twice, the end changes nothing of what is being spoken.
            return []
        if self.ended:
            raise ProtocolError("the context has been closed by continue:false", param="context_id")
        self._chars += len(request.transcript)
        if self._chars > self.max_chars:
            raise InputTooLongError(f"a context may have {self.max_chars} characters", param="transcript")
        self.heard_at = now
        actions: list[Action] = []
        if request.transcript.strip() or (self.started and request.transcript):
            self.started = True
            actions.append(Say(request.transcript))
            if request.transcript.strip():
                self._held_since = now
        if request.flush:
            actions.append(self._flush(asked=True))
        elif request.more and self._held_since is not None and self._delay_s(request) == 0:
            actions.append(self._flush(asked=False))
        if not request.more:
            self.ended = True
            self._held_since = None
            actions.append(End())
        return actions

    def due_at(self) -> float | None:
        """When text that was held back has to be spoken."""
        return None if self._held_since is None else self._held_since + self._delay_s(self.first)

    def overdue(self, now: float) -> list[Action]:
        """What time alone brings about."""
        due = self.due_at()
        return [self._flush(asked=False)] if due is not None and now >= due else []

    def flushed(self) -> int | None:
        """The utterance has spoken the oldest flush: its number, None when the client did not ask for it."""
        if not self._flushes.popleft():
            return None
        self._answered += 1
        return self._answered

    @property
    def flush_id(self) -> int:
        """The number of the flush that audio sent now belongs to."""
        return self._answered + 1

    def _flush(self, *, asked: bool) -> Action:
        self._held_since = None
        if not self.started:
            self._answered += 1
            return FlushDone(self._answered)
        self._flushes.append(asked)
        return Flush()

    def _delay_s(self, request: Generate) -> float:
        delay = request.max_buffer_delay_ms
        return (_BUFFER_DELAY_MS if delay is None else delay) / 1000
