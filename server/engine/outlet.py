"""The engine's end of one utterance's event queue, and how full that queue is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sled_tts.server.engine.request import AudioChunk, Event


@dataclass
class Outlet:
    """Where a stream's events go, and how much audio its reader has not taken yet.

    Each counter has one writer (`emitted` the engine thread, `taken` the reader's), so no lock is needed; `blocked` is
    set before the engine looks a second time, and read after the reader has counted, so no wake-up is lost.
    """

    deliver: Callable[[Event], None]
    max_unread: int
    emitted: int = field(default=0, init=False)
    taken: int = field(default=0, init=False)
    blocked: bool = field(default=False, init=False)

    def emit(self, event: Event) -> None:
        """Engine thread: hand an event over."""
        if isinstance(event, AudioChunk):
            self.emitted += event.frames
        self.deliver(event)

    def took(self, event: Event) -> bool:
        """Reader: count an event as read; True when the engine has to be woken."""
        if isinstance(event, AudioChunk):
            self.taken += event.frames
        return self.blocked and not self.full

    @property
    def full(self) -> bool:
        return self.emitted - self.taken >= self.max_unread

    def check_room(self) -> bool:
        """Engine thread: whether the stream may go on producing; remembers to be woken when not."""
        if not self.full:
            self.blocked = False
            return True
        self.blocked = True
        if self.full:
            return False
        self.blocked = False
        return True
