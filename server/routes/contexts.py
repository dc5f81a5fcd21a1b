"""What the WebSocket protocols share: a bounded wire, a conversation over it, and how an utterance reaches a listener.

A protocol is a `Session`: plain bookkeeping that is told about messages and time, and that starts one task for each
utterance. It never reads the socket itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from sled_tts.server.audio.encoder import AudioEncoder, encode, finish
from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished, FinishReason, TextFlushed
from sled_tts.server.errors import (
    BadJsonError,
    EngineError,
    IdleTimeoutError,
    Reply,
    SledTtsError,
    SlowReaderError,
    UnknownMessageError,
    VoiceNotFoundError,
    reply_for,
)
from sled_tts.server.logs import get_logger
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.replies import send_denial
from sled_tts.server.routes.state import AppState, state_of
from sled_tts.server.service import Utterance

log = get_logger(__name__)

# A close frame may be stuck behind audio that nobody reads; the connection is dropped then.
_CLOSE_TIMEOUT_S = 5.0


def parse_object(text: str) -> dict[str, Any]:
    """A text frame as a JSON object. Raises BadJsonError, for nesting beyond the parser's bound too."""
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadJsonError(f"the message is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadJsonError("a message must be a JSON object")
    return data


class _AgreedEnd(Exception):  # noqa: N818 - an agreed end is no error
    """The conversation is over as agreed: `Wire.finish` was called."""


class Wire:
    """One accepted WebSocket: JSON objects in, bounded sends out, and the tasks that speak on it."""

    def __init__(self, socket: WebSocket, send_timeout_s: float) -> None:
        self.socket = socket
        self._send_timeout_s = send_timeout_s
        self._receiving: asyncio.Task[MutableMapping[str, Any]] | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self.heard_at = time.monotonic()

    async def send(self, message: Mapping[str, Any]) -> None:
        """One JSON text frame. Waits while the listener is slow; SlowReaderError when that takes too long."""
        await self._bounded(self.socket.send_text(orjson.dumps(message).decode()))

    async def send_audio(self, data: bytes) -> None:
        """One binary frame, as `send`."""
        await self._bounded(self.socket.send_bytes(data))

    async def next(self, wait_s: float | None = None) -> dict[str, Any] | None:
        """The next message; None when `wait_s` pass before it, or an utterance ends: there may be less to wait for.

        Raises _AgreedEnd after `finish`, what `fail` was told, WebSocketDisconnect, UnknownMessageError for a binary
        frame and BadJsonError.
        """
        if self._receiving is None:
            self._receiving = asyncio.create_task(_receive(self.socket))
        receiving = self._receiving
        waiting: set[asyncio.Future[Any]] = {receiving, self._over, self._ended}
        await asyncio.wait(waiting, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            self._over.result()
            raise _AgreedEnd
        if self._ended.done():
            self._ended = asyncio.get_running_loop().create_future()
        if not receiving.done():
            return None
        frame, self._receiving = receiving.result(), None
        self.heard_at = time.monotonic()
        if frame["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(frame.get("code", 1005))
        text = frame.get("text")
        if not isinstance(text, str):
            raise UnknownMessageError("binary messages are not understood; send JSON text frames", param="type")
        return parse_object(text)

    def speak(self, speaking: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run an utterance; what it raises ends the conversation."""
        task = asyncio.create_task(speaking)
        self._tasks.add(task)
        task.add_done_callback(self._spoken)
        return task

    def finish(self) -> None:
        """End the conversation with close code 1000."""
        if not self._over.done():
            self._over.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End the conversation with an error; the first one counts."""
        if not self._over.done():
            self._over.set_exception(error)

    async def stop(self) -> None:
        """Cancel whatever still speaks and wait until it has let go of its slot."""
        if self._receiving is not None:
            self._receiving.cancel()
        if not self._over.done():
            self._over.cancel()
        elif not self._over.cancelled():
            self._over.exception()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self, code: int, reason: str, last: Mapping[str, Any] | None = None) -> None:
        """A last message and the close frame, if they still get through."""
        if self.socket.application_state is not WebSocketState.CONNECTED:
            return
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                if last is not None:
                    await self.socket.send_text(orjson.dumps(last).decode())
                await self.socket.close(code, reason[:120])

    def _spoken(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._ended.done():
            self._ended.set_result(None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def _bounded(self, sending: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await sending
        except TimeoutError:
            raise SlowReaderError(f"no audio was read for {self._send_timeout_s:g} s") from None


async def _receive(socket: WebSocket) -> MutableMapping[str, Any]:
    return await socket.receive()


class Session(Protocol):
    """One protocol's side of a conversation."""

    async def opened(self) -> None:
        """The handshake is over."""

    async def handle(self, message: dict[str, Any]) -> None:
        """A message of the client. What it raises ends the conversation."""

    def wait_s(self) -> float | None:
        """Seconds until `tick` has something to do; None for never."""

    async def tick(self) -> None:
        """That time has passed."""

    def last_words(self, reply: Reply) -> Mapping[str, Any]:
        """The message that precedes a close frame which means an error."""


async def converse(socket: WebSocket, route: str, begin: Callable[[Wire, AppState], Session]) -> None:
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
    await socket.accept()
    with state.metrics.connections.track_inprogress():
        try:
            await session.opened()
            while True:
                message = await wire.next(session.wait_s())
                await (session.tick() if message is None else session.handle(message))
        except WebSocketDisconnect:
            return
        except _AgreedEnd:
            await wire.close(1000, "")
        except Exception as error:
            reply = report(state, route, error)
            await wire.stop()
            await wire.close(reply.ws_close, reply.message, session.last_words(reply))
        finally:
            await wire.stop()


def report(state: AppState, route: str, error: Exception) -> Reply:
    """Count an error, log it when nobody meant it, and say how it is answered."""
    if not isinstance(error, SledTtsError):
        log.error("speaking failed", route=route, exc_info=error)
    state.metrics.error(route, error)
    return reply_for(error)


@dataclass
class IdleClock:
    """How long a client may be silent. `busy` while it has nothing to do but listen: the limit then rests."""

    limit_s: float
    since: float = field(default_factory=time.monotonic)

    def left(self, heard_at: float, busy: bool) -> float | None:
        """Seconds left, None while busy. Raises IdleTimeoutError when there are none."""
        if busy:
            self.since = time.monotonic()
            return None
        left = self.limit_s - (time.monotonic() - max(heard_at, self.since))
        if left <= 0:
            raise IdleTimeoutError(f"no message for {self.limit_s:g} s")
        return left


class Sink(Protocol):
    """Where an utterance goes."""

    @property
    def silenced(self) -> bool:
        """Whether the listener has interrupted: no more audio may reach them."""

    async def audio(self, data: bytes, chunk: AudioChunk | None) -> None:
        """Encoded audio; `chunk` is None for what an encoder held back."""

    async def event(self, event: Event) -> None:
        """Anything else that is not terminal."""


async def forward(
    utterance: Utterance, new_encoder: Callable[[], AudioEncoder], meter: UtteranceMeter, sink: Sink
) -> Finished:
    """Hand a whole utterance on. Raises what it failed with; the caller cancels it in every case.

    All audio before a flush has been handed on when its `TextFlushed` is, what the encoder held back included.
    """
    encoder = new_encoder()
    async for event in utterance:
        meter.event(event)
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, AudioChunk):
            await _send(sink, meter, await encode(encoder, event.pcm), event)
        elif isinstance(event, Finished):
            if event.reason is not FinishReason.CANCELLED:
                await _send(sink, meter, await finish(encoder), None)
            return event
        else:
            if isinstance(event, TextFlushed):
                await _send(sink, meter, await finish(encoder), None)
                encoder = new_encoder()
            if not sink.silenced:
                await sink.event(event)
    raise EngineError("synthesis ended without saying so")


async def _send(sink: Sink, meter: UtteranceMeter, data: bytes, chunk: AudioChunk | None) -> None:
    if data and not sink.silenced:
        await sink.audio(data, chunk)
        meter.sent()


def substitute_voice(state: AppState, name: str | None) -> str | None:
    """The name of a voice that is here; None, the default one, for any other where the operator allows it.

    Not its id: by `default` and OpenAI's names each of two checkpoints means a voice of its own. Raises
    VoiceNotFoundError.
    """
    try:
        state.service.voices.resolve(name)
        return name
    except VoiceNotFoundError:
        if state.settings.accept_unknown_voices:
            return None
        raise
