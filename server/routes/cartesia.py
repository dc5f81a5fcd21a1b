"""`WS /tts/websocket`: Cartesia's protocol; several contexts on one connection, each an utterance."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.websockets import WebSocket

from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.engine.request import AudioChunk, Event, FinishReason, TextFlushed, WordsSpoken
from sled_tts.server.errors import (
    EmptyInputError,
    EngineError,
    IdleTimeoutError,
    InputTooLongError,
    InvalidParameterError,
    Reply,
    SlowReaderError,
    UnsupportedError,
)
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes import cartesia_messages as wire_format
from sled_tts.server.routes.attending import IdleClock
from sled_tts.server.routes.cartesia_context import CartesiaContext, End, Flush, FlushDone, Say
from sled_tts.server.routes.cartesia_messages import Generate, context_id_of, parse_generate
from sled_tts.server.routes.forwarding import forward
from sled_tts.server.routes.state import AppState
from sled_tts.server.routes.wire import Wire, converse
from sled_tts.server.service import Utterance, UtteranceOptions

router = APIRouter()

ROUTE = "cartesia"


@router.websocket("/tts/websocket")
async def tts(socket: WebSocket) -> None:
    """One connection; contexts side by side."""
    await converse(socket, ROUTE, CartesiaSession)


def options_for(request: Generate, state: AppState, kind: str) -> UtteranceOptions:
    """How a request wants to be spoken. Raises NotFoundError for a voice or model that is not here."""
    # The service's own model names all mean whatever is loaded here.
    name = None if request.model_id.startswith("sonic") else request.model_id
    return UtteranceOptions(
        state.seed(request.seed),
        request.cfg_scale,
        model=state.resolve_model(name, kind).name,
        voice=state.voice_or_default(request.voice_id),
        normalize=request.normalize,
        timings=bool(request.add_timestamps),
    )


@dataclass
class Speaker:
    """A context's utterance and its way to the wire."""

    wire: Wire
    app: AppState
    context: CartesiaContext
    utterance: Utterance | None = field(default=None, init=False)
    meter: UtteranceMeter = field(init=False)
    _worked_since: float = field(default_factory=time.perf_counter, init=False)

    def __post_init__(self) -> None:
        self.meter = UtteranceMeter(self.app.metrics, ROUTE)

    @property
    def silenced(self) -> bool:
        return self.context.cancelled

    def silence(self) -> None:
        """No more audio from here on."""
        self.context.cancelled = self.context.ended = True
        if self.utterance is not None:
            self.utterance.cancel()

    async def audio(self, data: bytes, chunk: AudioChunk | None) -> None:
        now = time.perf_counter()
        step_ms, self._worked_since = 1000 * (now - self._worked_since), now
        await self.wire.send(wire_format.chunk(self.context.context_id, data, step_ms, self.context.flush_id))

    async def event(self, event: Event) -> None:
        if isinstance(event, WordsSpoken):
            await self.wire.send(wire_format.timestamps(self.context.context_id, event.words, self.context.first.pace))
        elif isinstance(event, TextFlushed) and (flush_id := self.context.flushed()) is not None:
            await self.wire.send(wire_format.flush_done(self.context.context_id, flush_id))

    async def forward(self) -> None:
        """Until the last audio has been sent. Raises what the utterance failed with; one that only held what cannot
        be spoken has not failed."""
        utterance, first = self.utterance, self.context.first
        assert utterance is not None
        wanted, rate = first.output_format.audio(), utterance.model.sampling_rate
        with self.meter:
            try:
                end = await forward(utterance, lambda: make_encoder(wanted, rate, speed=first.pace), self.meter, self)
            except EmptyInputError:
                return
            finally:
                utterance.cancel()
        if end.reason is FinishReason.LENGTH:
            raise EngineError("synthesis reached its length limit before the text ended", code="length")


@dataclass
class CartesiaSession:
    """The contexts of one connection. Only an open one may hold a slot; an error ends its context, not the others."""

    wire: Wire
    app: AppState
    speakers: dict[str, Speaker] = field(default_factory=dict, init=False)
    idle: IdleClock = field(default_factory=IdleClock, init=False)

    async def opened(self) -> None:
        """Nothing is said before the first request."""

    def last_words(self, reply: Reply) -> Mapping[str, Any]:
        return wire_format.error(None, reply)

    async def handle(self, message: dict[str, Any]) -> None:
        context_id = context_id_of(message)
        try:
            if message.get("cancel"):
                await self._cancel(context_id)
            else:
                speaker = self.speakers.get(context_id) if context_id is not None else None
                await self._generate(parse_generate(message, speaker.context.first if speaker is not None else None))
        except SlowReaderError:
            raise
        except Exception as error:
            await self._fail(context_id, error)

    def wait_s(self) -> float | None:
        now, settings = time.monotonic(), self.app.settings
        connection = self.idle.left(self.wire.heard_at, None if self.speakers else settings.ws_unused_timeout_s)
        waits = [] if connection is None else [connection]
        for speaker in self.speakers.values():
            if (due := speaker.context.due_at()) is not None:
                waits.append(due - now)
            if not speaker.context.ended:
                waits.append(speaker.context.heard_at + settings.ws_idle_timeout_s - now)
        return max(0.0, min(waits)) if waits else None

    async def tick(self) -> None:
        now, limit = time.monotonic(), self.app.settings.ws_idle_timeout_s
        for context_id, speaker in list(self.speakers.items()):
            context = speaker.context
            if not context.ended and now >= context.heard_at + limit:
                await self._fail(context_id, IdleTimeoutError(f"no message for {limit:g} s"))
            elif context.overdue(now) and speaker.utterance is not None:
                speaker.utterance.flush()

    async def _generate(self, request: Generate) -> None:
        context_id = request.context_id or str(uuid.uuid4())
        speaker = self.speakers.get(context_id)
        if speaker is None:
            limit = self.app.settings.ws_max_contexts
            if len(self.speakers) >= limit:
                raise InputTooLongError(f"a connection may have {limit} contexts at once", param="context_id")
            # A wrong format is refused here, before anything is spoken.
            if request.output_format.container != "raw":
                raise UnsupportedError("messages carry raw audio", param="output_format.container")
            make_encoder(request.output_format.audio(), request.output_format.sample_rate, speed=request.pace)
            speaker = Speaker(self.wire, self.app, CartesiaContext(context_id, request, self._max_chars))
            self.speakers[context_id] = speaker
        for action in speaker.context.take(request, time.monotonic()):
            match action:
                case Say(text):
                    self._utterance(speaker).append(text)
                case Flush():
                    self._utterance(speaker).flush()
                case FlushDone(flush_id):
                    await self.wire.send(wire_format.flush_done(context_id, flush_id))
                case End() if speaker.utterance is not None:
                    speaker.utterance.close()
                case End():
                    del self.speakers[context_id]
                    await self.wire.send(wire_format.done(context_id))

    def _utterance(self, speaker: Speaker) -> Utterance:
        if speaker.utterance is None:
            speaker.meter.text()
            options = options_for(speaker.context.first, self.app, "streaming")
            speaker.utterance = self.app.service.open_stream(options)
            self.wire.speak(self._run(speaker))
        return speaker.utterance

    async def _run(self, speaker: Speaker) -> None:
        context_id = speaker.context.context_id
        try:
            await speaker.forward()
        except SlowReaderError:
            raise
        except Exception as error:
            await self._fail(context_id, error)
            return
        if self.speakers.get(context_id) is speaker:
            del self.speakers[context_id]
            await self.wire.send(wire_format.done(context_id))

    async def _cancel(self, context_id: str | None) -> None:
        if context_id is None:
            raise InvalidParameterError("cancel needs a context_id", param="context_id")
        speaker = self.speakers.pop(context_id, None)
        if speaker is not None:
            speaker.meter.interrupted(self.wire.heard_at)
            speaker.silence()
        await self.wire.send(wire_format.done(context_id))

    async def _fail(self, context_id: str | None, error: Exception) -> None:
        reply = self.app.report(ROUTE, error)
        speaker = self.speakers.pop(context_id, None) if context_id is not None else None
        if speaker is not None:
            speaker.silence()
        await self.wire.send(wire_format.error(context_id, reply))

    @property
    def _max_chars(self) -> int:
        return self.app.settings.max_stream_chars
