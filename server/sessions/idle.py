"""What becomes of an utterance whose text stops coming: spoken as it stands, later closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class IdleRules:
    """Seconds without text, while nothing is left to say: from `flush_s` on the open segment is ended as it stands,
    from `close_s` on the utterance fails with IdleTimeoutError. None: never."""

    flush_s: float | None = None
    close_s: float | None = None


@dataclass
class IdleWatch:
    """Calls `flush` once a silence, and `close` once. Time counts while somebody waits for an event."""

    rules: IdleRules
    flush: Callable[[], None]
    close: Callable[[], None]
    _timers: list[asyncio.TimerHandle] = field(default_factory=list, init=False)

    def start(self) -> None:
        """Text has come, or an event has been heard: silence counts from now."""
        self.stop()
        loop = asyncio.get_running_loop()
        for delay, call in ((self.rules.flush_s, self.flush), (self.rules.close_s, self.close)):
            if delay is not None:
                self._timers.append(loop.call_later(delay, call))

    def restart(self) -> None:
        """`start`, if it counts."""
        if self._timers:
            self.start()

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
