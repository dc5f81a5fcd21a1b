"""Whole texts over HTTP, as the protocols beside OpenAI's ask for them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pydantic import BaseModel

from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.audio.formats import AudioFormat
from sled_tts.server.engine.request import Failed
from sled_tts.server.errors import EmptyInputError, InputTooLongError
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.speech_stream import SpeechResponse, SpokenBody
from sled_tts.server.routes.state import AppState
from sled_tts.server.service import Utterance, UtteranceOptions

# Names come back in a header: no more than a few, and only such as names are.
_NAME, _NAMED = re.compile(r"[A-Za-z0-9_.-]{1,64}"), 8


@dataclass(frozen=True)
class Answer:
    """Speech that has begun."""

    body: SpokenBody
    utterance: Utterance
    options: UtteranceOptions

    def response(
        self, request: BaseModel, stream: AsyncIterator[bytes] | None = None, media_type: str | None = None
    ) -> SpeechResponse:
        """The audio itself, or a `stream` around it; it is not complete unless the transfer ends properly."""
        made = SpeechResponse(stream or self.body.audio(), media_type or self.body.encoder.media_type, self.utterance)
        made.headers["X-Sled-Model"] = self.utterance.model.name
        made.headers["X-Sled-Seed"] = str(self.options.seed)
        if (warning := without_effect(request)) is not None:
            made.headers["X-Sled-Warning"] = warning
        return made


async def begin_answer(
    state: AppState, route: str, text: str, options: UtteranceOptions, wanted: AudioFormat, speed: float = 1.0
) -> Answer:
    """Start to speak; the caller sends a response or cancels the utterance.

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
    body = SpokenBody(first, events, encoder, meter, route, expected_cut=False)
    return Answer(body, utterance, options)


def without_effect(request: BaseModel) -> str | None:
    """A warning that names the fields of a request that this server does not know; None without any."""
    given = {name for name, value in (request.model_extra or {}).items() if value is not None}
    names = sorted(name for name in given if _NAME.fullmatch(name))[:_NAMED]
    return f"without effect: {', '.join(names)}" if names else None
