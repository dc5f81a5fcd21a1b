"""`WS /v1/speak`: Deepgram's Speak protocol."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.websockets import WebSocket

from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.audio.formats import AudioFormat
from sled_tts.server.engine.request import AudioChunk, Event, FinishReason, TextSkipped
from sled_tts.server.errors import EmptyInputError, InvalidParameterError, Reply, UnsupportedError
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.attending import IdleClock, silence_limit_s
from sled_tts.server.routes.deepgram_options import SpeakQuery, parse_query
from sled_tts.server.routes.deepgram_session import Turn, TurnQueue
from sled_tts.server.routes.forwarding import forward
from sled_tts.server.routes.state import AppState
from sled_tts.server.routes.wire import Wire, converse
from sled_tts.server.service import LoadedModel, Utterance, UtteranceOptions

router = APIRouter()

ROUTE = "deepgram"


@router.websocket("/v1/speak")
async def speak(socket: WebSocket) -> None:
    """One connection, one voice, one format; turns one after another."""

    def begin(wire: Wire, state: AppState) -> DeepgramSession:
        query = parse_query(socket.query_params)
        model = state.resolve_model(None, "streaming")
        wanted = query.audio(streamed=True)
        make_encoder(wanted, model.sampling_rate, speed=query.speed)
        return DeepgramSession(wire, state, query, wanted, query.options(state, model), model)

    await converse(socket, ROUTE, begin)


@dataclass
class DeepgramSession:
    """`speaker` is that of the current turn, once it has begun."""

    wire: Wire
    app: AppState
    query: SpeakQuery
    wanted: AudioFormat
    options: UtteranceOptions
    model: LoadedModel
    queue: TurnQueue = field(init=False)
    idle: IdleClock = field(default_factory=IdleClock, init=False)
    speaker: _TurnSpeaker | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.queue = TurnQueue(self.app.settings.max_stream_chars)

    async def opened(self) -> None:
        await self.wire.send(
            {
                "type": "Metadata",
                "request_id": str(uuid.uuid4()),
                "model_name": self.options.voice or self.query.model or "default",
                "model_version": self.model.name,
                "model_uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, self.model.name)),
                "synthetic": True,
            }
        )
        if self.query.stock_voice:
            await self.warn("voice_substituted", f"{self.query.model} is not here; the default voice speaks")

    def last_words(self, reply: Reply) -> Mapping[str, Any]:
        return {"type": "Error", "code": reply.code, "message": reply.message, "description": reply.message}

    def wait_s(self) -> float | None:
        current = self.queue.current
        awaited = current is not None and not current.ended
        limit = silence_limit_s(self.app.settings, awaited=awaited, speaking=current is not None)
        return self.idle.left(self.wire.heard_at, limit)

    async def tick(self) -> None:
        """`wait_s` has the only deadline, and raises when it has passed."""

    async def handle(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "Speak":
                await self._speak(message.get("text"))
            case "Flush":
                self.queue.flush()
                await self._go_on()
            case "Clear":
                await self._clear()
            case "Close":
                self.queue.close()
                await self._go_on()
            case kind:
                known = "Speak, Flush, Clear, Close"
                await self.warn("unknown_message", f"unknown message type {str(kind)[:64]!r}; known: {known}")

    async def _speak(self, text: object) -> None:
        if not isinstance(text, str):
            raise InvalidParameterError("Speak needs text", param="text")
        if not text:
            await self.warn("empty_input", "Speak without text")
            return
        if not text.strip() and self.queue.open is None:
            # White space may separate words inside a turn; before one it says nothing.
            return
        self.queue.speak(text)
        await self._go_on()

    async def _clear(self) -> None:
        number = self.queue.clear()
        if self.speaker is not None:
            self.speaker.meter.interrupted(self.wire.heard_at)
            self.speaker.utterance.cancel()
        self.speaker = None
        await self.wire.send({"type": "Cleared", "sequence_id": number})
        if self.queue.over:
            self.wire.finish()

    async def _go_on(self) -> None:
        """Hand new text to the current turn's utterance, begin the next turn, answer those that hold nothing."""
        while (turn := self.queue.current) is not None:
            if self.speaker is None and not turn.texts:
                if not turn.ended:
                    return
                await self._turn_over()
                continue
            if self.speaker is None:
                self.speaker = _TurnSpeaker(self, turn, self.app.service.open_stream(self.options))
                self.wire.speak(self._run(self.speaker))
            for text in turn.take():
                self.speaker.utterance.append(text)
            if turn.ended:
                self.speaker.utterance.close()
            return
        if self.queue.over:
            self.wire.finish()

    async def _run(self, speaker: _TurnSpeaker) -> None:
        cut = await speaker.forward()
        if cut and not speaker.silenced:
            await self.warn("length", "synthesis reached its length limit before the text ended: audio is missing")
        # The turn is taken from the queue without an await in between: messages are handled at the same time.
        if speaker.silenced:
            return
        self.speaker = None
        await self._turn_over()
        await self._go_on()

    async def _turn_over(self) -> None:
        number = self.queue.spoken()
        if number is not None:
            await self.wire.send({"type": "Flushed", "sequence_id": number})

    async def warn(self, code: str, description: str) -> None:
        """A `Warning`. One client reads `description`, another `warn_msg`."""
        await self.wire.send({"type": "Warning", "code": code, "description": description, "warn_msg": description})


@dataclass
class _TurnSpeaker:
    """A turn's utterance and its way to the wire."""

    session: DeepgramSession
    turn: Turn
    utterance: Utterance
    meter: UtteranceMeter = field(init=False)
    warned: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.meter = UtteranceMeter(self.session.app.metrics, ROUTE)

    @property
    def silenced(self) -> bool:
        return self.session.queue.current is not self.turn

    async def audio(self, data: bytes, chunk: AudioChunk | None) -> None:
        await self.session.wire.send_audio(data)

    async def event(self, event: Event) -> None:
        if isinstance(event, TextSkipped):
            self.warned = True
            what = f"{event.script} text is not spoken and was left out: {event.sample!r}"
            await self.session.warn("unsupported_text", what)

    async def forward(self) -> bool:
        """Until the last byte has been sent; whether audio is missing. Raises what the utterance failed with."""
        session, rate = self.session, self.utterance.model.sampling_rate
        with self.meter as meter:
            meter.text()
            try:
                end = await forward(
                    self.utterance, lambda: make_encoder(session.wanted, rate, speed=session.query.speed), meter, self
                )
                return end.reason is FinishReason.LENGTH
            except EmptyInputError:
                return False
            except UnsupportedError as error:
                # Text that is not spoken is no reason to leave the turns after it unspoken, or its flush unanswered.
                if not self.warned:
                    await session.warn(error.code, error.message)
                return False
            finally:
                self.utterance.cancel()
