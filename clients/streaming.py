"""Asynchronous client of `WS /v1/stream`: text as it is written, PCM as it is generated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from sled_tts.clients.errors import IncompleteAudioError, ServerUnreachableError, SpeechError
from sled_tts.clients.rest import DEFAULT_URL, auth_headers, root_of


@dataclass(frozen=True)
class Started:
    """What the session will deliver: mono PCM `format` at `sample_rate` Hz."""

    sample_rate: int
    format: str
    model: str
    by_sentence: bool
    info: dict[str, Any]


@dataclass(frozen=True)
class Pcm:
    """One chunk of raw little-endian PCM."""

    data: bytes


@dataclass(frozen=True)
class Done:
    """The end: `finish_reason` is `stop`, `length` (cut) or `cancelled`. Times in seconds."""

    finish_reason: str
    duration_s: float
    ttfa_s: float | None
    rtf: float | None
    info: dict[str, Any]


StreamEvent = Started | Pcm | Done


@dataclass(frozen=True)
class AsyncSledClient:
    """Streams text to the server and audio back; one connection an utterance."""

    base_url: str = DEFAULT_URL
    api_key: str | None = None

    @property
    def stream_url(self) -> str:
        scheme, _, rest = root_of(self.base_url).partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/v1/stream"

    async def stream(self, text: AsyncIterable[str] | Iterable[str], **start: Any) -> AsyncIterator[StreamEvent]:
        """Send deltas as they come and yield `Started`, `Pcm` ..., `Done`.

        `start` are fields of the start message (`seed`, `cfg_scale`, `format`, ...). Raises
        ServerUnreachableError, SpeechError for what the server refuses, IncompleteAudioError when the
        connection ends before `done`.
        """
        try:
            connection = await websockets.connect(
                self.stream_url, additional_headers=auth_headers(self.api_key), compression=None, max_size=None
            )
        except websockets.InvalidStatus as error:
            raise _refusal(error) from error
        except OSError as error:
            raise ServerUnreachableError(f"no server at {self.base_url}: {error}") from error
        async with connection:
            fields = {key: value for key, value in start.items() if value is not None}
            await connection.send(json.dumps({"type": "start", **fields}))
            sender = asyncio.create_task(_send_text(connection, text))
            try:
                async for event in _receive(connection):
                    yield event
            finally:
                sender.cancel()
                await asyncio.wait({sender})
            failure = None if sender.cancelled() else sender.exception()
            if failure is not None and not isinstance(failure, websockets.ConnectionClosed):
                raise failure


def _refusal(error: websockets.InvalidStatus) -> SpeechError:
    try:
        told = json.loads(error.response.body or b"")["error"]
        return SpeechError(told["message"], code=str(told.get("code")), param=told.get("param"))
    except (ValueError, KeyError, TypeError):
        status = error.response.status_code
        return SpeechError(f"the server answered HTTP {status}", code=str(status))


async def _send_text(connection: ClientConnection, text: AsyncIterable[str] | Iterable[str]) -> None:
    if isinstance(text, AsyncIterable):
        async for delta in text:
            await connection.send(json.dumps({"type": "text", "text": delta}))
    else:
        for delta in text:
            await connection.send(json.dumps({"type": "text", "text": delta}))
    await connection.send(json.dumps({"type": "end"}))


async def _receive(connection: ClientConnection) -> AsyncIterator[StreamEvent]:
    try:
        async for frame in connection:
            if isinstance(frame, bytes):
                yield Pcm(frame)
                continue
            message = json.loads(frame)
            kind = message.get("type")
            if kind == "started":
                yield Started(
                    message["sample_rate"], message["format"], message["model"], message["by_sentence"], message
                )
            elif kind == "done":
                yield Done(message["finish_reason"], message["duration_s"], message["ttfa_s"], message["rtf"], message)
                return
            elif kind == "error":
                told = message.get("error", message)
                raise SpeechError(told["message"], code=str(told.get("code")), param=told.get("param"))
    except websockets.ConnectionClosedError as error:
        raise IncompleteAudioError(f"the connection broke off: {error}", code="incomplete") from error
    raise IncompleteAudioError("the connection ended before the audio was complete", code="incomplete")
