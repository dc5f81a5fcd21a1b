"""`WS /v1/text-to-speech/{voice_id}/stream-input` and `/multi-stream-input`: ElevenLabs' protocol."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.websockets import WebSocket

from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.audio.formats import AudioFormat
from sled_tts.server.errors import (
    AuthenticationError,
    IdleTimeoutError,
    InputTooLongError,
    Reply,
    SlowReaderError,
)
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes import elevenlabs_messages as wire_format
from sled_tts.server.routes.attending import IdleClock
from sled_tts.server.routes.cartesia_context import End, Flush, Say
from sled_tts.server.routes.elevenlabs_context import Abort, Action, Context, Final
from sled_tts.server.routes.elevenlabs_key import OwedKey
from sled_tts.server.routes.elevenlabs_messages import Incoming, Query, output_format, parse_incoming, parse_query
from sled_tts.server.routes.elevenlabs_speaker import Speaker
from sled_tts.server.routes.state import AppState
from sled_tts.server.routes.wire import Wire, converse
from sled_tts.server.service import UtteranceOptions

router = APIRouter()

ROUTE = "elevenlabs"
# Text without a context_id on `multi-stream-input` belongs to this one.
_DEFAULT_CONTEXT = "default"
# Contexts that were told to finish may do so for this long after `close_socket`.
_DRAIN_S = 1.5


@router.websocket("/v1/text-to-speech/{voice_id}/stream-input")
async def single(socket: WebSocket, voice_id: str) -> None:
    """One utterance; empty text ends it and then the connection."""
    await converse(socket, ROUTE, lambda wire, app: _begin(wire, app, voice_id, multi=False))


@router.websocket("/v1/text-to-speech/{voice_id}/multi-stream-input")
async def multi(socket: WebSocket, voice_id: str) -> None:
    """Contexts side by side, each an utterance."""
    await converse(socket, ROUTE, lambda wire, app: _begin(wire, app, voice_id, multi=True))


def options_for(
    app: AppState, voice_id: str, wanted: Query | wire_format.SpeechRequest, kind: str, *, timings: bool
) -> UtteranceOptions:
    """How to speak. Raises NotFoundError for a voice or model that is not here."""
    # The service's own model names all mean whatever is loaded here.
    name = wanted.model_id if wanted.model_id and not wanted.model_id.startswith("eleven_") else None
    return UtteranceOptions(
        app.seed(wanted.seed),
        wanted.cfg_scale,
        model=app.resolve_model(name, kind).name,
        voice=app.voice_or_default(voice_id),
        normalize=wanted.apply_text_normalization != "off",
        timings=timings,
    )


def _begin(wire: Wire, app: AppState, voice_id: str, *, multi: bool) -> ElevenLabsSession:
    query = parse_query(wire.socket.query_params)
    options = options_for(app, voice_id, query, "streaming", timings=True)
    return ElevenLabsSession(wire, app, query, options, output_format(query.output_format), multi)


@dataclass
class ElevenLabsSession:
    """The contexts of one connection. Only one with something to say holds a slot. On `multi-stream-input` an error
    ends its context, on `stream-input` the connection."""

    wire: Wire
    app: AppState
    query: Query
    options: UtteranceOptions
    wanted: AudioFormat
    multi: bool
    contexts: dict[str | None, Context] = field(default_factory=dict, init=False)
    speakers: dict[str | None, Speaker] = field(default_factory=dict, init=False)
    idle: IdleClock = field(default_factory=IdleClock, init=False)
    key: OwedKey = field(init=False)
    _closing_at: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.key = OwedKey.of(self.wire.socket.scope)

    async def opened(self) -> None:
        """Nothing is said before the first message."""

    def last_words(self, reply: Reply) -> Mapping[str, Any]:
        return wire_format.error(None, reply)

    async def handle(self, message: dict[str, Any]) -> None:
        if not self.multi:
            message.pop("context_id", None)
        elif message.get("context_id") is None and message.get("text") != "":
            message["context_id"] = _DEFAULT_CONTEXT
        try:
            incoming = parse_incoming(message)
            self.key.take(incoming)
            await self._take(incoming)
        except (SlowReaderError, AuthenticationError):
            raise
        except Exception as error:
            context_id = message.get("context_id")
            await self._fail(context_id if isinstance(context_id, str) else None, error)

    def wait_s(self) -> float | None:
        if (owed := self.key.left_s()) is not None:
            return owed
        now = time.monotonic()
        waits = [] if self._closing_at is None else [self._closing_at - now]
        unused = self.app.settings.ws_unused_timeout_s if self.multi else self.query.inactivity_timeout
        if (left := self.idle.left(self.wire.heard_at, None if self.contexts else unused)) is not None:
            waits.append(left)
        waits += [one.active_at + self.query.inactivity_timeout - now for one in self._waiting()]
        return max(0.0, min(waits)) if waits else None

    async def tick(self) -> None:
        now = time.monotonic()
        if self._closing_at is not None and (now >= self._closing_at or not self.speakers):
            self._finish()
        limit = self.query.inactivity_timeout
        for context in self._waiting():
            if now >= context.active_at + limit:
                await self._fail(context.context_id, IdleTimeoutError(f"no message for {limit:g} s"))

    def _waiting(self) -> list[Context]:
        return [context for context in self.contexts.values() if not context.ended]

    async def _take(self, incoming: Incoming) -> None:
        now = time.monotonic()
        if incoming.close_socket:
            self._close_socket(now)
            return
        if self._closing_at is not None:
            return
        context = self._context(incoming, now)
        if context is not None:
            for action in context.take(incoming, now):
                await self._do(context, action)

    def _context(self, incoming: Incoming, now: float) -> Context | None:
        """The context a message is about, opened if need be; None for keepalives and ids that are not open."""
        key = incoming.context_id
        if self.multi and key is None:
            for context in self.contexts.values():
                context.active_at = now
            return None
        if key in self.contexts:
            return self.contexts[key]
        if self.multi and not incoming.text:
            return None
        limit = self.app.settings.ws_max_contexts
        if len(self.contexts) >= limit:
            raise InputTooLongError(f"a connection may have {limit} contexts at once", param="context_id")
        # A speed that the format cannot be heard at is refused here, before anything is spoken.
        make_encoder(self.wanted, self.wanted.rate, speed=incoming.speed)
        context = Context(key, self.query.auto_mode, self.app.settings.max_stream_chars, incoming.speed, now)
        self.contexts[key] = context
        return context

    async def _do(self, context: Context, action: Action) -> None:
        match action:
            case Say(text):
                self._speaker(context).say(text)
            case Flush():
                self._speaker(context).flush()
            case End():
                self._speaker(context).end()
            case Abort():
                self._interrupted(context)
                await self._final(context)
            case Final():
                await self._final(context)

    def _speaker(self, context: Context) -> Speaker:
        if context.context_id not in self.speakers:
            meter = UtteranceMeter(self.app.metrics, ROUTE)
            meter.text()
            utterance = self.app.service.open_stream(self.options)
            speaker = Speaker(self.wire, context, utterance, self.wanted, self.query.sync_alignment, meter)
            self.speakers[context.context_id] = speaker
            self.wire.speak(self._run(speaker))
        return self.speakers[context.context_id]

    async def _run(self, speaker: Speaker) -> None:
        context = speaker.context
        try:
            await speaker.forward()
        except SlowReaderError:
            raise
        except Exception as error:
            if not context.aborted:
                await self._fail(context.context_id, error)
            return
        if self.contexts.get(context.context_id) is context:
            await self._final(context)

    async def _final(self, context: Context) -> None:
        """The context is over."""
        self._drop(context.context_id)
        await self.wire.send(wire_format.final(context.context_id))
        if not self.multi or (self._closing_at is not None and not self.speakers):
            self._finish()

    def _close_socket(self, now: float) -> None:
        for context_id, context in list(self.contexts.items()):
            if not context.ended:
                self._interrupted(context)
                self._drop(context_id)
        if self.speakers:
            self._closing_at = now + _DRAIN_S
        else:
            self._finish()

    def _finish(self) -> None:
        for context_id in list(self.contexts):
            self._drop(context_id)
        self.wire.finish()

    def _interrupted(self, context: Context) -> None:
        if context.context_id in self.speakers:
            self.speakers[context.context_id].meter.interrupted(self.wire.heard_at)

    def _drop(self, context_id: str | None) -> None:
        self.contexts.pop(context_id, None)
        speaker = self.speakers.pop(context_id, None)
        if speaker is not None:
            speaker.silence()

    async def _fail(self, context_id: str | None, error: Exception) -> None:
        self._drop(context_id)
        if not self.multi:
            self.wire.fail(error)
            return
        await self.wire.send(wire_format.error(context_id, self.app.report(ROUTE, error)))
