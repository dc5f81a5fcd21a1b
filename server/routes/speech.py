"""`POST /v1/audio/speech`: text in, audio out while it is generated."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from sled_tts.server.audio.encoder import make_encoder, rest_format
from sled_tts.server.audio.formats import CONTENT_TYPES, AudioFormat, Codec
from sled_tts.server.audio.reference import decode_base64
from sled_tts.server.engine.request import Failed, TextSkipped
from sled_tts.server.errors import EmptyInputError, InputTooLongError, InvalidParameterError
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.answers import without_effect
from sled_tts.server.routes.openai_events import MEDIA_TYPE as EVENT_STREAM
from sled_tts.server.routes.openai_events import speech_events
from sled_tts.server.routes.speech_body import SpeechBody
from sled_tts.server.routes.speech_stream import SpeechResponse, SpokenBody
from sled_tts.server.routes.state import AppState, State
from sled_tts.server.service import LoadedModel, Reference, Utterance, UtteranceOptions
from sled_tts.server.voices.recordings import read_reference
from sled_tts.server.voices.setup import reference_rules

router = APIRouter(prefix="/v1", tags=["speech"])

_ROUTE = "speech"
_CODECS = (Codec.MP3, Codec.OPUS, Codec.AAC, Codec.FLAC, Codec.WAV, Codec.PCM_S16LE)
_MEDIA_TYPES = (*(CONTENT_TYPES[codec] for codec in _CODECS), EVENT_STREAM)


@router.post(
    "/audio/speech",
    response_class=StreamingResponse,
    responses={
        200: {"content": {name: {} for name in _MEDIA_TYPES}, "description": "Audio, streamed as it is generated"},
        413: {"description": "Text, recording or body beyond its limit"},
        422: {"description": "A field outside its range, or a recording that cannot be used"},
        503: {"description": "Every slot is taken, or not ready yet; see Retry-After"},
    },
)
async def speech(body: SpeechBody, state: State) -> StreamingResponse:
    """Speak a text. A connection that ends without the final chunk means that the audio is not complete."""
    meter = UtteranceMeter(state.metrics, _ROUTE)
    meter.text()
    left_out: list[TextSkipped] = []
    try:
        utterance, seed = await _start(body, state)
        try:
            # The status line waits for the first event, so that an early failure is an honest error status.
            events = aiter(utterance)
            first = await anext(events)
            while isinstance(first, TextSkipped):
                left_out.append(first)
                first = await anext(events)
            if isinstance(first, Failed):
                raise first.error
            rate = utterance.model.sampling_rate
            encoder = await asyncio.to_thread(make_encoder, _format(body, rate), rate, speed=body.speed)
        except BaseException:
            utterance.cancel()
            raise
    except Exception as error:
        state.metrics.error(_ROUTE, error)
        raise
    expected_cut = body.max_seconds is not None
    spoken = SpokenBody(first, events, encoder, meter, _ROUTE, expected_cut)
    if body.stream_format == "sse":
        response = SpeechResponse(speech_events(spoken, body.input), EVENT_STREAM, utterance)
    else:
        response = SpeechResponse(spoken.audio(), encoder.media_type, utterance)
    response.headers.update(_headers(body, utterance.model, seed))
    if left_out:
        response.headers["X-Sled-Left-Out"] = ", ".join(f"{e.script} {e.begin}-{e.end}" for e in left_out)
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
    seed = state.seed(body.seed)
    # Cheap refusals come before a recording is decoded.
    _format(body, model.sampling_rate)
    reference = await _reference(body, state)
    max_frames = None if body.max_seconds is None else max(1, round(body.max_seconds * model.frame_rate))
    options = UtteranceOptions(
        seed, body.cfg_scale, max_frames, model=model.name, voice=body.voice_name, normalize=body.normalize
    )
    return await state.service.speak(body.input, options, reference), seed


def _format(body: SpeechBody, rate: int) -> AudioFormat:
    return rest_format(body.response_format, rate, body.sample_rate)


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


def _headers(body: SpeechBody, model: LoadedModel, seed: int) -> dict[str, str]:
    rate = _format(body, model.sampling_rate).rate
    headers = {"X-Sled-Model": model.name, "X-Sled-Seed": str(seed), "X-Sled-Sample-Rate": str(rate)}
    warnings = [without_effect(body)]
    if body.instructions:
        warnings.append("instructions has no effect on this model")
    if told := "; ".join(filter(None, warnings)):
        headers["X-Sled-Warning"] = told
    return headers
