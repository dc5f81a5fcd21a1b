"""Whole texts over HTTP, as the protocols beside OpenAI's ask for them."""

from __future__ import annotations

import asyncio

from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.audio.formats import AudioFormat
from sled_tts.server.engine.request import Failed
from sled_tts.server.errors import EmptyInputError, InputTooLongError
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.speech_stream import SpeechResponse, SpokenBody
from sled_tts.server.routes.state import AppState
from sled_tts.server.service import Utterance, UtteranceOptions


async def begin_answer(
    state: AppState, route: str, text: str, options: UtteranceOptions, wanted: AudioFormat, speed: float = 1.0
) -> tuple[SpokenBody, Utterance]:
    """Start to speak; the caller streams the body and cancels the utterance.

    Waits for the first event, so that an early failure is raised here and becomes an honest status. Raises
    EmptyInputError, InputTooLongError, NotReadyError, OverCapacityError and what synthesis fails with.
    """
    meter = UtteranceMeter(state.metrics, route)
    meter.text()
    try:
        state.require_ready()
        limit = state.settings.max_text_chars
        if len(text) > limit:
            raise InputTooLongError(f"the text has {len(text)} characters; the limit is {limit}", param="text")
        if not text.strip():
            raise EmptyInputError("the text holds nothing to say", param="text")
        utterance = await state.service.speak(text, options)
        try:
            events = aiter(utterance)
            first = await anext(events)
            if isinstance(first, Failed):
                raise first.error
            encoder = await asyncio.to_thread(make_encoder, wanted, utterance.model.sampling_rate, speed=speed)
        except BaseException:
            utterance.cancel()
            raise
    except Exception as error:
        state.metrics.error(route, error)
        raise
    return SpokenBody(first, events, encoder, meter, route, expected_cut=False), utterance


def audio_answer(body: SpokenBody, utterance: Utterance, options: UtteranceOptions) -> SpeechResponse:
    """The audio itself; it is not complete unless the transfer ends properly."""
    response = SpeechResponse(body.audio(), body.encoder.media_type, utterance)
    response.headers["X-Sled-Model"] = utterance.model.name
    response.headers["X-Sled-Seed"] = str(options.seed)
    return response
