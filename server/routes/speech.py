"""`POST /v1/audio/speech`: text in, audio out while it is generated."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from sled_tts.server.audio.encoder import rest_format
from sled_tts.server.audio.formats import CONTENT_TYPES, AudioFormat, Codec
from sled_tts.server.audio.reference import decode_base64
from sled_tts.server.errors import InvalidParameterError
from sled_tts.server.routes.answers import VOICE_SUBSTITUTED, begin, require_text
from sled_tts.server.routes.openai_events import MEDIA_TYPE as EVENT_STREAM
from sled_tts.server.routes.openai_events import speech_events
from sled_tts.server.routes.speech_body import SpeechBody
from sled_tts.server.routes.state import AppState, State
from sled_tts.server.service import Reference, Utterance, UtteranceOptions
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
    answer = await begin(
        state,
        _ROUTE,
        lambda: _start(body, state),
        lambda rate: _format(body, rate),
        body.speed,
        expected_cut=body.max_seconds is not None,
        param="input",
    )
    warnings = ["instructions has no effect on this model"] if body.instructions else []
    if body.voice_name is not None and answer.options.voice is None:
        warnings.append(VOICE_SUBSTITUTED)
    warning = "; ".join(warnings)
    if body.stream_format == "sse":
        response = answer.response(body, speech_events(answer.body, body.input), EVENT_STREAM, warning)
    else:
        response = answer.response(body, warning=warning)
    response.headers["X-Sled-Sample-Rate"] = str(_format(body, answer.utterance.model.sampling_rate).rate)
    return response


async def _start(body: SpeechBody, state: AppState) -> tuple[Utterance, UtteranceOptions]:
    voice = state.voice_or_default(body.voice_name)
    require_text(body.input, state.settings.max_text_chars, "input")
    model = state.resolve_model(body.model, "offline")
    # Cheap refusals come before a recording is decoded.
    _format(body, model.sampling_rate)
    reference = await _reference(body, state)
    max_frames = None if body.max_seconds is None else max(1, round(body.max_seconds * model.frame_rate))
    options = UtteranceOptions(
        state.seed(body.seed),
        body.cfg_scale,
        max_frames,
        model=model.name,
        voice=voice,
        normalize=body.normalize,
    )
    return await state.service.speak(body.input, options, reference), options


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
