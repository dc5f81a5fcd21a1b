"""`WS /v1/stream`: text as it is written, speech as it is generated. See docs/protocol.md for every message."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from sled_tts.server.errors import (
    IdleTimeoutError,
    ProtocolError,
    SledTtsError,
    UnknownMessageError,
    reply_for,
)
from sled_tts.server.logs import get_logger
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.native_messages import (
    Cancel,
    ClientMessage,
    End,
    Flush,
    KeepAlive,
    Start,
    Text,
    Tokens,
    parse_message,
)
from sled_tts.server.routes.native_speaker import Speaker
from sled_tts.server.routes.replies import error_body, send_denial
from sled_tts.server.routes.state import AppState, state_of
from sled_tts.server.service import UtteranceOptions

router = APIRouter()
log = get_logger(__name__)

_ROUTE = "stream"
# A close frame may be stuck behind audio that nobody reads; the connection is dropped then.
_CLOSE_TIMEOUT_S = 5.0


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """One connection; any number of utterances, one after another."""
    state = state_of(socket)
    try:
        state.require_ready()
    except SledTtsError as error:
        state.metrics.error(_ROUTE, error)
        await send_denial(error, socket.scope, socket.receive, socket.send)
        return
    await socket.accept()
    with state.metrics.connections.track_inprogress():
        await Connection(socket, state).serve()


@dataclass
class Connection:
    """Reads messages and owns the speaker of the utterance under way."""

    socket: WebSocket
    state: AppState
    speaker: Speaker | None = field(default=None, init=False)
    task: asyncio.Task[None] | None = field(default=None, init=False)
    active_at: float = field(default_factory=time.monotonic, init=False)

    async def serve(self) -> None:
        """Until the client leaves or something fails; a failure is told before the close frame that names it."""
        try:
            while True:
                self.handle(parse_message(await self._next_text()))
        except WebSocketDisconnect:
            return
        except Exception as error:
            await self._stop_speaking()
            await self._fail(error)
        finally:
            await self._stop_speaking()

    def handle(self, message: ClientMessage) -> None:
        """One message. Raises what the table turns into a close code."""
        if isinstance(message, KeepAlive):
            return
        if isinstance(message, Start):
            self._start(message)
            return
        if self.speaker is None:
            raise ProtocolError(f"{message.type} before start", param="type")
        if self.task is None or self.task.done() or self.speaker.cancelled:
            # The utterance ended (at its length limit, say) while this message was on its way: not the client's fault.
            return
        match message:
            case Text():
                self._require_open(message.type)
                self.speaker.append(message.text)
            case Tokens():
                self._require_open(message.type)
                self.speaker.append_tokens(message.tokens)
            case Flush():
                self._require_open(message.type)
                self.speaker.utterance.flush()
            case End():
                self._require_open(message.type)
                self.speaker.end()
            case Cancel():
                self.speaker.cancel()

    def _require_open(self, kind: str) -> None:
        assert self.speaker is not None
        if self.speaker.text_ended:
            raise ProtocolError(f"{kind} after the end of the text", param="type")

    def _start(self, start: Start) -> None:
        if self.task is not None and not self.task.done():
            raise ProtocolError("start while an utterance is under way; wait for done, or cancel it", param="type")
        model = self.state.resolve_model(start.model, "streaming")
        seed = self.state.seed(start.seed)
        max_frames = None if start.max_seconds is None else max(1, round(start.max_seconds * model.frame_rate))
        options = UtteranceOptions(
            seed,
            start.cfg_scale,
            max_frames,
            start.n,
            start.m,
            model.name,
            start.voice,
            normalize=start.normalize,
            timings=start.timings,
        )
        settings = self.state.settings
        self.speaker = Speaker(
            self.socket, self.state.service.open_stream(options), start, seed,
            UtteranceMeter(self.state.metrics, _ROUTE), settings.max_stream_chars, settings.ws_send_timeout_s,
        )  # fmt: skip
        self.task = asyncio.create_task(self.speaker.run())

    async def _next_text(self) -> str:
        message = await self._next_frame()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text")
        if not isinstance(text, str):
            raise UnknownMessageError("binary messages are not understood; send JSON text frames", param="type")
        return text

    async def _next_frame(self) -> dict[str, Any]:
        """The next frame, or the failure of the utterance under way, or IdleTimeoutError."""
        receiving = asyncio.ensure_future(self.socket.receive())
        try:
            while not receiving.done():
                speaking = self.task if self.task is not None and not self.task.done() else None
                waiting: set[asyncio.Future[Any]] = {receiving} if speaking is None else {receiving, speaking}
                await asyncio.wait(waiting, timeout=self._idle_left(), return_when=asyncio.FIRST_COMPLETED)
                if self.task is not None and self.task.done():
                    self.task.result()
                if speaking is not None and speaking.done():
                    self.active_at = time.monotonic()
        finally:
            # The utterance may have failed first: the unread message goes with the connection.
            receiving.cancel()
        self.active_at = time.monotonic()
        return dict(receiving.result())

    def _idle_left(self) -> float | None:
        """None while the client has nothing to do but listen."""
        speaking = self.task is not None and not self.task.done()
        if speaking and self.speaker is not None and self.speaker.text_ended:
            return None
        limit = self.state.settings.ws_idle_timeout_s
        left = limit - (time.monotonic() - self.active_at)
        if left <= 0:
            raise IdleTimeoutError(f"no message for {limit:g} s")
        return left

    async def _stop_speaking(self) -> None:
        if self.task is None:
            return
        self.task.cancel()
        # Its own failure, if any, has been reported by then; what is awaited here is only that it has let go.
        await asyncio.wait({self.task})
        if not self.task.cancelled():
            self.task.exception()

    async def _fail(self, error: Exception) -> None:
        """The error as a message, then the close code of its row in the table."""
        reply = reply_for(error)
        if not isinstance(error, SledTtsError):
            log.error("stream failed", exc_info=error)
        self.state.metrics.error(_ROUTE, error)
        if self.socket.application_state is not WebSocketState.CONNECTED:
            return
        body: dict[str, Any] = {"type": "error", **error_body(reply)}
        if reply.retry_after_s is not None:
            body["retry_after_s"] = reply.retry_after_s
        if self.speaker is not None:
            body["id"] = self.speaker.start.id
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.socket.send_text(orjson.dumps(body).decode())
                await self.socket.close(reply.ws_close, reply.message[:120])
