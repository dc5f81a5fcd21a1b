"""When a WebSocket session heard a message, and when the server sent what, both on the server's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sled_tts.server.routes.contexts import Wire


@dataclass(frozen=True)
class Watch:
    """`sent`: (time, message) of everything sent; `heard_at`: times of the messages asked for, seconds."""

    sent: list[tuple[float, Any]] = field(default_factory=list)
    heard_at: list[float] = field(default_factory=list)


def watch(monkeypatch: pytest.MonkeyPatch, session: Any, wanted: Callable[[dict[str, Any]], bool]) -> Watch:
    """Note what any `Wire` sends, and when a `session` (a class with `handle`) is given a `wanted` message."""
    seen = Watch()
    send, handle = Wire.send, session.handle

    async def watched_send(self: Wire, message: Any) -> None:
        await send(self, message)
        seen.sent.append((time.perf_counter(), message))

    async def watched_handle(self: Any, message: dict[str, Any]) -> None:
        if wanted(message):
            seen.heard_at.append(time.perf_counter())
        await handle(self, message)

    monkeypatch.setattr(Wire, "send", watched_send)
    monkeypatch.setattr(session, "handle", watched_handle)
    return seen
