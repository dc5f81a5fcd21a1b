"""When a session read an interruption, and which audio the server began to send after that, on the server's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sled_tts.server.routes.wire import Wire


@dataclass(frozen=True)
class Watch:
    """`sent`: (time, message) of everything whose sending has begun, binary audio as bytes; `heard_at`: times of the
    messages asked for. Seconds."""

    sent: list[tuple[float, Any]] = field(default_factory=list)
    heard_at: list[float] = field(default_factory=list)

    def after(self) -> list[Any]:
        """What was sent after the first message asked for."""
        return [message for at, message in self.sent if at > self.heard_at[0]]


def watch(monkeypatch: pytest.MonkeyPatch, session: Any, wanted: Callable[[Any], bool], wire: Any = Wire) -> Watch:
    """Note what any `wire` sends, and when a `session` (a class with `handle`) is given a `wanted` message."""
    seen = Watch()
    handle = session.handle

    async def watched_handle(self: Any, message: Any) -> None:
        if wanted(message):
            seen.heard_at.append(time.perf_counter())
        await handle(self, message)

    def watched(send: Any) -> Any:
        async def sending(self: Any, message: Any) -> None:
            seen.sent.append((time.perf_counter(), message))
            await send(self, message)

        return sending

    for name in ("send", "send_audio"):
        if hasattr(wire, name):
            monkeypatch.setattr(wire, name, watched(getattr(wire, name)))
    monkeypatch.setattr(session, "handle", watched_handle)
    return seen
