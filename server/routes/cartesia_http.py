"""Cartesia over HTTP: `POST /tts/bytes`, `POST /tts/sse`, `GET /voices`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from sled_tts.server.engine.request import Event, WordsSpoken, WordTiming
from sled_tts.server.errors import UnsupportedError, reply_for
from sled_tts.server.routes import cartesia_messages as wire_format
from sled_tts.server.routes.answers import begin_answer
from sled_tts.server.routes.cartesia import ROUTE, options_for
from sled_tts.server.routes.cartesia_messages import Generate
from sled_tts.server.routes.speech_stream import SpokenBody
from sled_tts.server.routes.state import State
from sled_tts.server.routes.voice_pages import voice_page
from sled_tts.server.service import Voice, VoiceKind

router = APIRouter(tags=["cartesia"])

# What this protocol calls a text.
_TEXT = "transcript"


@router.post("/tts/bytes", response_class=StreamingResponse)
async def bytes_(request: Generate, state: State) -> StreamingResponse:
    """The audio of a whole transcript, streamed as it is generated."""
    options = replace(options_for(request, state, "offline"), timings=False)
    wanted = request.output_format.audio()
    answer = await begin_answer(state, ROUTE, request.transcript, options, wanted, request.pace, _TEXT)
    return answer.response(request)


@router.post("/tts/sse", response_class=StreamingResponse)
async def sse(request: Generate, state: State) -> StreamingResponse:
    """The same as server-sent events, with word timestamps if they are asked for."""
    if request.output_format.container != "raw":
        raise UnsupportedError("events carry raw audio", param="output_format.container")
    options = options_for(request, state, "offline")
    wanted = request.output_format.audio()
    answer = await begin_answer(state, ROUTE, request.transcript, options, wanted, request.pace, _TEXT)
    return answer.response(request, _events(answer.body, request), "text/event-stream")


async def _events(body: SpokenBody, request: Generate) -> AsyncIterator[bytes]:
    """`timestamps` before the chunk that holds them, `chunk`s, then `done`, or `error` when audio is missing."""
    words: list[WordTiming] = []
    _keep(body.first, words)
    body.events = _tapped(body.events, words)
    context_id = request.context_id
    last = time.perf_counter()
    try:
        async with aclosing(body.audio()) as pieces:
            async for data in pieces:
                if words:
                    yield _event(wire_format.timestamps(context_id, words, request.pace))
                    words.clear()
                now = time.perf_counter()
                yield _event(wire_format.chunk(context_id, data, 1000 * (now - last), 1))
                last = now
    except Exception as error:
        yield _event(wire_format.error(context_id, reply_for(error)) | {"request_id": ""})
        return
    yield _event(wire_format.done(context_id))


async def _tapped(events: AsyncIterator[Event], words: list[WordTiming]) -> AsyncIterator[Event]:
    async for event in events:
        _keep(event, words)
        yield event


def _keep(event: Event, words: list[WordTiming]) -> None:
    if isinstance(event, WordsSpoken):
        words.extend(event.words)


def _event(message: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(message["type"]).encode(), orjson.dumps(message))


@router.get("/voices")
async def voices(
    state: State,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    starting_after: str | None = None,
    ending_before: str | None = None,
    q: str | None = None,
) -> dict[str, Any]:
    """Voices, a page at a time; the SDK turns pages until one is empty."""
    page = voice_page(state.service.voices.list(), limit, search=q or "", after=starting_after, before=ending_before)
    return {"data": [_voice(voice) for voice in page.voices], "has_more": page.has_more, "next_page": None}


@router.get("/voices/{voice_id}")
async def voice(voice_id: str, state: State) -> dict[str, Any]:
    """One voice, by id or name."""
    return _voice(state.service.voices.resolve(voice_id))


def _voice(voice: Voice) -> dict[str, Any]:
    cloned = voice.kind is VoiceKind.CLONED
    return {
        "id": voice.id,
        "name": voice.name,
        "tagline": "",
        "description": voice.description,
        "created_at": datetime.fromtimestamp(voice.created_at, UTC).isoformat(),
        "language": "en",
        "locales": [{"locale": "en-US", "is_native": True}],
        "is_owner": cloned,
        "access": "private" if cloned else "public",
        "visibility": "owner" if cloned else "all",
    }
