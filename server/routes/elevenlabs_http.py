"""ElevenLabs over HTTP: whole texts, with and without timestamps, and the voices there are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi import Query as QueryParameter
from fastapi.responses import JSONResponse, StreamingResponse

from sled_tts.server.audio.synthetic import SYNTHETIC_HEADERS
from sled_tts.server.engine.request import AudioChunk, Event, WordsSpoken
from sled_tts.server.routes import elevenlabs_messages as wire_format
from sled_tts.server.routes.answers import Answer, begin_answer, while_connected
from sled_tts.server.routes.elevenlabs import ROUTE, options_for
from sled_tts.server.routes.elevenlabs_alignment import Alignment, Character
from sled_tts.server.routes.elevenlabs_messages import DEFAULT_FORMAT, SpeechRequest
from sled_tts.server.routes.state import AppState, State
from sled_tts.server.routes.voice_pages import voice_page
from sled_tts.server.service import Voice, VoiceKind

router = APIRouter(tags=["elevenlabs"])

# Nobody reads this status; proxies log it.
_CLIENT_LEFT = 499

Format = Annotated[str, QueryParameter(description="Such as mp3_44100_128, pcm_16000 or ulaw_8000.")]


@router.post("/v1/text-to-speech/{voice_id}", response_class=StreamingResponse)
@router.post("/v1/text-to-speech/{voice_id}/stream", response_class=StreamingResponse)
async def speech(
    voice_id: str, request: SpeechRequest, state: State, output_format: Format = DEFAULT_FORMAT
) -> StreamingResponse:
    """The audio of a whole text, streamed as it is generated."""
    answer = await _begin(state, voice_id, request, output_format, timings=False)
    return answer.response(request)


@router.post("/v1/text-to-speech/{voice_id}/stream/with-timestamps", response_class=StreamingResponse)
async def timestamped_stream(
    voice_id: str, request: SpeechRequest, state: State, output_format: Format = DEFAULT_FORMAT
) -> StreamingResponse:
    """The same as lines of JSON, each with the characters that are heard in its audio."""
    answer = await _begin(state, voice_id, request, output_format, timings=True)
    return answer.response(request, _Aligner(answer, request).lines(), "application/json")


@router.post("/v1/text-to-speech/{voice_id}/with-timestamps", response_model=None)
async def timestamped(
    voice_id: str,
    request: SpeechRequest,
    state: State,
    connection: Request,
    output_format: Format = DEFAULT_FORMAT,
) -> Response:
    """All the audio at once, with every character's time."""
    answer = await _begin(state, voice_id, request, output_format, timings=True)
    try:
        whole = await while_connected(connection, _Aligner(answer, request).whole())
    finally:
        answer.utterance.cancel()
    if whole is None:
        return Response(status_code=_CLIENT_LEFT)
    return JSONResponse(wire_format.timestamped(*whole), headers=dict(SYNTHETIC_HEADERS))


async def _begin(
    state: AppState, voice_id: str, request: SpeechRequest, output_format: str, *, timings: bool
) -> Answer:
    options = options_for(state, voice_id, request, "offline", timings=timings)
    wanted = wire_format.output_format(output_format, wire_format.FILE_FORMATS)
    return await begin_answer(state, ROUTE, request.text, options, wanted, request.speed)


class _Aligner:
    """Counts an answer's audio on its way to the encoder."""

    def __init__(self, answer: Answer, request: SpeechRequest) -> None:
        self._body, self._text = answer.body, request.text
        self._alignment = Alignment(request.speed)
        self._rate = answer.utterance.model.sampling_rate
        self._samples = 0

    async def pieces(self) -> AsyncGenerator[tuple[bytes, list[Character]], None]:
        """Encoded audio and the characters heard in it."""
        self._alignment.append(self._text)
        self._hear(self._body.first)
        self._body.events = self._tapped(self._body.events)
        async with aclosing(self._body.audio()) as parts:
            async for data in parts:
                yield data, self._characters()
        self._alignment.mark()
        if rest := self._characters() + self._alignment.spoken():
            yield b"", rest

    async def whole(self) -> tuple[bytes, list[Character]]:
        """Everything at once."""
        audio, characters = b"", []
        async with aclosing(self.pieces()) as pieces:
            async for data, heard in pieces:
                audio += data
                characters += heard
        return audio, characters

    async def lines(self) -> AsyncIterator[bytes]:
        """As the HTTP stream carries them."""
        async with aclosing(self.pieces()) as pieces:
            async for data, characters in pieces:
                yield orjson.dumps(wire_format.timestamped(data, characters)) + b"\n"

    def _characters(self) -> list[Character]:
        samples, self._samples = self._samples, 0
        return self._alignment.chunk(samples / self._rate)

    async def _tapped(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            self._hear(event)
            yield event

    def _hear(self, event: Event) -> None:
        if isinstance(event, AudioChunk):
            self._samples += event.pcm.size
        elif isinstance(event, WordsSpoken):
            self._alignment.words(event.words)


@router.get("/v1/voices")
async def voices(state: State) -> dict[str, Any]:
    """Every voice; the default one first."""
    return {"voices": [_voice(voice) for voice in state.service.voices.list()]}


@router.get("/v2/voices")
async def voices_by_pages(
    state: State,
    page_size: Annotated[int, QueryParameter(ge=1, le=100)] = 10,
    next_page_token: str | None = None,
    search: str = "",
) -> dict[str, Any]:
    """The same, a page at a time, those with `search` in their id or name."""
    page = voice_page(state.service.voices.list(), page_size, search=search, after=next_page_token)
    return {
        "voices": [_voice(voice) for voice in page.voices],
        "has_more": page.has_more,
        "total_count": page.total,
        "next_page_token": page.voices[-1].id if page.has_more else None,
    }


@router.get("/v1/voices/{voice_id}")
async def voice(voice_id: str, state: State) -> dict[str, Any]:
    """One voice, by id or name."""
    return _voice(state.service.voices.resolve(voice_id))


def _voice(voice: Voice) -> dict[str, Any]:
    return {
        "voice_id": voice.id,
        "name": voice.name,
        "category": "cloned" if voice.kind is VoiceKind.CLONED else "premade",
        "description": voice.description,
        "labels": {},
    }
