"""`POST /v1/audio/speech`: text in, audio out while it is generated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sled_tts.server.audio.encoder import AudioEncoder, make_encoder, rest_format
from sled_tts.server.audio.reference import decode_base64
from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished, FinishReason
from sled_tts.server.errors import (
    EmptyInputError,
    EngineError,
    InputTooLongError,
    InvalidParameterError,
    NotFoundError,
)
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.speech_body import SpeechBody
from sled_tts.server.routes.state import AppState, State, new_seed
from sled_tts.server.service import LoadedModel, Reference, Utterance, UtteranceOptions
from sled_tts.server.voices.recordings import read_reference
from sled_tts.server.voices.setup import reference_rules

router = APIRouter(prefix="/v1", tags=["speech"])

_ROUTE = "speech"
_AUDIO: dict[str, dict[str, str]] = {"audio/wav": {}, "audio/pcm": {}}


class AudioResponse(StreamingResponse):
    """A streamed body that frees its utterance however the response ends, even before its first byte."""

    def __init__(self, stream: AsyncIterator[bytes], utterance: Utterance, encoder: AudioEncoder) -> None:
        super().__init__(stream, media_type=encoder.media_type)
        self._utterance = utterance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._utterance.cancel()


@router.post(
    "/audio/speech",
    response_class=StreamingResponse,
    responses={
        200: {"content": _AUDIO, "description": "Audio, streamed as it is generated"},
        413: {"description": "Text, recording or body beyond its limit"},
        422: {"description": "A field outside its range, or a recording that cannot be used"},
        503: {"description": "Every slot is taken, or not ready yet; see Retry-After"},
    },
)
async def speech(body: SpeechBody, state: State) -> StreamingResponse:
    """Speak a text. A connection that ends without the final chunk means that the audio is not complete."""
    meter = UtteranceMeter(state.metrics, _ROUTE)
    meter.text()
    try:
        utterance, seed = await _start(body, state)
        try:
            # The status line waits for the first event, so that an early failure is an honest error status.
            events = aiter(utterance)
            first = await anext(events)
            if isinstance(first, Failed):
                raise first.error
            encoder = _encoder(body, utterance.model.sampling_rate)
        except BaseException:
            utterance.cancel()
            raise
    except Exception as error:
        state.metrics.error(_ROUTE, error)
        raise
    expected_cut = body.max_seconds is not None
    response = AudioResponse(_audio(first, events, encoder, meter, expected_cut), utterance, encoder)
    response.headers.update(_headers(body, utterance.model, seed))
    return response


async def _start(body: SpeechBody, state: AppState) -> tuple[Utterance, int]:
    state.require_ready()
    state.service.voices.resolve(body.voice_name)
    limit = state.settings.max_text_chars
    if len(body.input) > limit:
        raise InputTooLongError(f"input has {len(body.input)} characters; the limit is {limit}", param="input")
    if not body.input.strip():
        raise EmptyInputError("input holds nothing to say", param="input")
    model = state.resolve_model(body.model, "offline")
    seed = new_seed() if body.seed is None else body.seed
    # Cheap refusals come before a recording is decoded.
    _encoder(body, model.sampling_rate)
    reference = await _reference(body, state)
    max_frames = None if body.max_seconds is None else max(1, round(body.max_seconds * model.frame_rate))
    options = UtteranceOptions(seed, body.cfg_scale, max_frames, model=model.name, voice=body.voice_name)
    return await state.service.speak(body.input, options, reference), seed


def _encoder(body: SpeechBody, rate: int) -> AudioEncoder:
    return make_encoder(rest_format(body.response_format, rate, body.sample_rate), rate)


async def _reference(body: SpeechBody, state: AppState) -> Reference | None:
    if body.ref_audio is None:
        if body.ref_text is not None:
            raise InvalidParameterError("ref_text needs ref_audio", param="ref_audio")
        return None
    if body.ref_text is None or not body.ref_text.strip():
        raise InvalidParameterError("ref_audio needs ref_text: what is said in it", param="ref_text")
    rules = reference_rules(state.settings)
    data = decode_base64(body.ref_audio, rules.max_bytes)
    return await asyncio.to_thread(read_reference, data, body.ref_text, rules, mode=body.mode)


async def _audio(
    first: Event, events: AsyncIterator[Event], encoder: AudioEncoder, meter: UtteranceMeter, expected_cut: bool
) -> AsyncIterator[bytes]:
    """The body. Ends cleanly only after `Finished`; anything else raises, which aborts the chunked transfer.

    `expected_cut`: the caller set the length, so reaching it is what was asked for. Otherwise it means that the
    model ran away, which is no success.
    """
    with meter:
        try:
            event = first
            while not isinstance(event, Finished):
                meter.event(event)
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, AudioChunk) and (data := encoder.encode(event.pcm)):
                    meter.sent()
                    yield data
                event = await anext(events, Failed(EngineError("synthesis ended without saying so")))
            meter.event(event)
            if event.reason is FinishReason.CANCELLED:
                raise EngineError("synthesis was cancelled before its end")
            if event.reason is FinishReason.LENGTH and not expected_cut:
                raise EngineError("synthesis reached its length limit before the text ended", code="length")
        except Exception as error:
            meter.metrics.error(_ROUTE, error)
            raise
        if data := encoder.finish():
            yield data


def _headers(body: SpeechBody, model: LoadedModel, seed: int) -> dict[str, str]:
    rate = body.sample_rate or (24_000 if body.response_format == "pcm" else model.sampling_rate)
    headers = {"X-Sled-Model": model.name, "X-Sled-Seed": str(seed), "X-Sled-Sample-Rate": str(rate)}
    if body.instructions:
        headers["X-Sled-Warning"] = "instructions has no effect on this model"
    return headers


@router.post("/audio/speech/audio/speech", include_in_schema=False)
async def doubled_path() -> None:
    """What a client asks for when the whole path was pasted as its base URL."""
    raise NotFoundError("the base URL should end in /v1, not in /v1/audio/speech", param="path")
