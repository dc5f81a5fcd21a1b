"""Speech over HTTP: from a request to a streamed answer with an honest status."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.audio.formats import AudioFormat
from sled_tts.server.engine.request import Failed, TextSkipped
from sled_tts.server.errors import EmptyInputError, InputTooLongError, RequestError
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.speech_stream import SpeechResponse, SpokenBody
from sled_tts.server.routes.state import AppState
from sled_tts.server.service import Utterance, UtteranceOptions

# Names come back in a header: no more than a few, and only such as names are.
_NAME, _NAMED = re.compile(r"[A-Za-z0-9_.-]{1,64}"), 8
# A warning of `Answer.response`.
VOICE_SUBSTITUTED = "the voice that was asked for is not here; the default one speaks"

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """Speech that has begun; `left_out` is what was skipped before its first sound, `send_timeout_s` how long a
    listener may read nothing."""

    body: SpokenBody
    utterance: Utterance
    options: UtteranceOptions
    left_out: tuple[TextSkipped, ...]
    send_timeout_s: float

    def response(
        self,
        request: BaseModel,
        stream: AsyncIterator[bytes] | None = None,
        media_type: str | None = None,
        warning: str | None = None,
    ) -> SpeechResponse:
        """The audio itself, or a `stream` around it; it is not complete unless the transfer ends properly.

        `warning` goes into a header: nothing that a client has written may be in it.
        """
        made = SpeechResponse(
            self.body,
            stream or self.body.audio(),
            media_type or self.body.encoder.media_type,
            self.utterance,
            self.send_timeout_s,
        )
        made.headers["X-Sled-Model"] = self.utterance.model.name
        made.headers["X-Sled-Seed"] = str(self.options.seed)
        if told := "; ".join(filter(None, (without_effect(request), warning))):
            made.headers["X-Sled-Warning"] = told
        if self.left_out:
            made.headers["X-Sled-Left-Out"] = ", ".join(f"{e.script} {e.begin}-{e.end}" for e in self.left_out)
        return made


async def begin(
    state: AppState,
    route: str,
    start: Callable[[], Awaitable[tuple[Utterance, UtteranceOptions]]],
    wanted: Callable[[int], AudioFormat],
    speed: float = 1.0,
    *,
    expected_cut: bool = False,
    param: str = "text",
) -> Answer:
    """Start to speak; the caller sends a response or cancels the utterance. `wanted` of the model's rate, in Hz.

    `param` is what the caller's protocol calls the text.

    Waits for the first sound, so that an early failure is raised here and becomes an honest status. Raises
    NotReadyError, what `start` raises and what synthesis fails with.
    """
    meter = UtteranceMeter(state.metrics, route)
    meter.text()
    left_out: list[TextSkipped] = []
    try:
        state.require_ready()
        utterance, options = await start()
        try:
            events = aiter(utterance)
            while isinstance(first := await anext(events), TextSkipped):
                left_out.append(first)
            if isinstance(first, Failed):
                raise first.error
            rate = utterance.model.sampling_rate
            encoder = await asyncio.to_thread(make_encoder, wanted(rate), rate, speed=speed)
        except BaseException:
            utterance.cancel()
            raise
    except Exception as error:
        state.metrics.error(route, error)
        if isinstance(error, RequestError) and error.param == "text":
            error.param = param
        raise
    body = SpokenBody(first, events, encoder, meter, route, expected_cut)
    return Answer(body, utterance, options, tuple(left_out), state.settings.ws_send_timeout_s)


async def begin_answer(
    state: AppState,
    route: str,
    text: str,
    options: UtteranceOptions,
    wanted: AudioFormat,
    speed: float = 1.0,
    param: str = "text",
) -> Answer:
    """`begin` for a whole text. Also raises EmptyInputError, InputTooLongError and OverCapacityError."""

    async def start() -> tuple[Utterance, UtteranceOptions]:
        require_text(text, state.settings.max_text_chars, param)
        return await state.service.speak(text, options), options

    return await begin(state, route, start, lambda _: wanted, speed, param=param)


async def while_connected(connection: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` gives; None, and it is cancelled, when the client leaves first.

    For answers that are sent only when they are whole: nothing else notices that nobody waits for them. The request's
    body has been read before.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.ensure_future(connection.receive())
    waiting: set[asyncio.Future[Any]] = {working, leaving}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


def require_text(text: str, limit: int, param: str) -> None:
    """Raises InputTooLongError beyond `limit` characters, EmptyInputError."""
    if len(text) > limit:
        raise InputTooLongError(f"{param} has {len(text)} characters; the limit is {limit}", param=param)
    if not text.strip():
        raise EmptyInputError(f"{param} holds nothing to say", param=param)


def without_effect(request: BaseModel) -> str | None:
    """A warning that names the fields of a request that this server does not know; None without any."""
    given = {name for name, value in (request.model_extra or {}).items() if value is not None}
    names = sorted(name for name in given if _NAME.fullmatch(name))[:_NAMED]
    return f"without effect: {', '.join(names)}" if names else None
