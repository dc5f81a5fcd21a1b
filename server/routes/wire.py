"""A WebSocket as the protocols see it: JSON objects in, bounded sends out, from handshake to close frame."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from sled_tts.server.audio.synthetic import SYNTHETIC_HEADERS
from sled_tts.server.auth import key_scheme
from sled_tts.server.errors import Reply, SledTtsError, UnknownMessageError
from sled_tts.server.json_text import json_object
from sled_tts.server.routes.attending import AgreedEnd, Conversation, Session, attend, patiently
from sled_tts.server.routes.replies import send_denial
from sled_tts.server.routes.state import AppState, state_of

# A close frame may be stuck behind audio that nobody reads; the connection is dropped then.
_CLOSE_TIMEOUT_S = 5.0


class Wire(Conversation[dict[str, Any]]):
    """One WebSocket. `next` also raises WebSocketDisconnect, UnknownMessageError for a binary frame and BadJsonError.

    `left_at`: when the client's leaving was read from the socket, in seconds of `time.monotonic`.
    """

    def __init__(self, socket: WebSocket, send_timeout_s: float) -> None:
        super().__init__(self._frame)
        self.socket = socket
        self._send_timeout_s = send_timeout_s
        self.left_at: float | None = None

    async def send(self, message: Mapping[str, Any]) -> None:
        """One JSON text frame. Waits while the listener is slow; SlowReaderError when that takes too long."""
        await patiently(self.socket.send_text(orjson.dumps(message).decode()), self._send_timeout_s)

    async def send_audio(self, data: bytes) -> None:
        """One binary frame, as `send`."""
        await patiently(self.socket.send_bytes(data), self._send_timeout_s)

    async def close(self, code: int, reason: str, last: Mapping[str, Any] | None = None) -> None:
        """A last message and the close frame, if they still get through."""
        if self.socket.application_state is not WebSocketState.CONNECTED:
            return
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                if last is not None:
                    await self.socket.send_text(orjson.dumps(last).decode())
                await self.socket.close(code, reason[:120])

    async def _frame(self) -> dict[str, Any]:
        frame = await self.socket.receive()
        if frame["type"] == "websocket.disconnect":
            self.left_at = time.monotonic()
            raise WebSocketDisconnect(frame.get("code", 1005))
        text = frame.get("text")
        if not isinstance(text, str):
            raise UnknownMessageError("binary messages are not understood; send JSON text frames", param="type")
        return json_object(text)


class WebSocketSession(Session[dict[str, Any]], Protocol):
    """What a WebSocket protocol also has: a beginning and an end."""

    async def opened(self) -> None:
        """The handshake is over."""

    def last_words(self, reply: Reply) -> Mapping[str, Any]:
        """The message that precedes a close frame which means an error."""


async def converse(socket: WebSocket, route: str, begin: Callable[[Wire, AppState], WebSocketSession]) -> None:
    """Serve one connection. What `begin` raises, and not being ready, is an HTTP answer to the handshake."""
    state = state_of(socket)
    wire = Wire(socket, state.settings.ws_send_timeout_s)
    try:
        state.require_ready()
        session = begin(wire, state)
    except SledTtsError as error:
        state.metrics.error(route, error)
        await wire.stop()
        await send_denial(error, socket.scope, socket.receive, socket.send)
        return
    headers = [(name.lower().encode(), value.encode()) for name, value in SYNTHETIC_HEADERS.items()]
    await socket.accept(key_scheme(socket.scope), headers)
    with state.metrics.connections.track_inprogress(), state.conversing(wire):
        try:
            await session.opened()
            await attend(wire, session)
        except WebSocketDisconnect:
            speaking = wire.speaking
            await wire.stop()
            if speaking and wire.left_at is not None:
                state.metrics.silenced(route, wire.left_at)
        except AgreedEnd:
            await wire.close(1000, "")
        except Exception as error:
            reply = state.report(route, error)
            await wire.stop()
            await wire.close(reply.ws_close, reply.message, session.last_words(reply))
        finally:
            await wire.stop()
