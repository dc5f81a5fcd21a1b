"""An ElevenLabs context without I/O: messages in, what the utterance has to do out."""

from __future__ import annotations

from dataclasses import dataclass, field

from sled_tts.server.errors import InputTooLongError
from sled_tts.server.routes.cartesia_context import End, Flush, Say
from sled_tts.server.routes.elevenlabs_messages import Incoming


@dataclass(frozen=True)
class Abort:
    """Stop at once."""


@dataclass(frozen=True)
class Final:
    """There is nothing left to say: the context is over."""


Action = Say | Flush | End | Abort | Final


@dataclass
class Context:
    """One context; `context_id` is None on `stream-input`, whose empty text is the end and not a keepalive.

    `active_at`: when either side last said something, in seconds on the caller's clock.
    """

    context_id: str | None
    auto_mode: bool
    max_chars: int
    speed: float = 1.0
    active_at: float = 0.0
    started: bool = field(default=False, init=False)
    ended: bool = field(default=False, init=False)
    aborted: bool = field(default=False, init=False)
    _flushed: bool = field(default=False, init=False)
    _spaced: bool = field(default=True, init=False)
    _chars: int = field(default=0, init=False)

    def take(self, message: Incoming, now: float) -> list[Action]:
        """A message for this context. Raises InputTooLongError."""
        self.active_at = now
        if message.close_context:
            return self._close(message)
        if self.ended:
            return []
        actions = self._say(message.text or "")
        if message.flush:
            actions += self._flush()
        if message.text == "" and self.context_id is None and not message.flush:
            actions += self._end()
        return actions

    def _say(self, text: str) -> list[Action]:
        if not text or not (text.strip() or self.started):
            return []
        if self.auto_mode and not self._spaced and not text[0].isspace():
            text = " " + text
        self._chars += len(text)
        if self._chars > self.max_chars:
            raise InputTooLongError(f"a context may have {self.max_chars} characters", param="text")
        self._spaced = text[-1].isspace()
        if not text.strip():
            return [Say(text)]
        self.started, self._flushed = True, False
        return [Say(text), Flush()] if self.auto_mode else [Say(text)]

    def _flush(self) -> list[Action]:
        if not self.started or self._flushed:
            return []
        self._flushed = True
        # In auto mode each phrase has been flushed already.
        return [] if self.auto_mode else [Flush()]

    def _close(self, message: Incoming) -> list[Action]:
        """Without a flush before it, and the second time, it aborts; after a flush it lets the rest be heard."""
        if self.ended:
            return self._abort()
        actions = self._say(message.text or "")
        if message.flush:
            actions += self._flush()
        return actions + (self._end() if self._flushed or not self.started else self._abort())

    def _end(self) -> list[Action]:
        self.ended = True
        return [End()] if self.started else [Final()]

    def _abort(self) -> list[Action]:
        self.ended = self.aborted = True
        return [Abort()]
