"""One Wyoming connection: what it asks for, one utterance at a time."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field

from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.audio.formats import AudioFormat, Codec
from sled_tts.server.engine.request import FinishReason
from sled_tts.server.errors import (
    EmptyInputError,
    EngineError,
    InputTooLongError,
    InvalidParameterError,
    ProtocolError,
    SlowReaderError,
    UnsupportedError,
)
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.attending import IdleClock, attend, silence_limit_s
from sled_tts.server.routes.forwarding import forward
from sled_tts.server.routes.state import AppState
from sled_tts.server.service import Utterance, UtteranceOptions
from sled_tts.server.wyoming.framing import WyomingEvent
from sled_tts.server.wyoming.info import describe
from sled_tts.server.wyoming.speech import Speech
from sled_tts.server.wyoming.wire import ClientLeft, WyomingWire

ROUTE = "wyoming"
# The protocol has no field for it: the same sentence is always said the same way.
_SEED = 0


async def serve(wire: WyomingWire, app: AppState) -> None:
    """Until the client leaves or something fails; a failure is told as an `error` event first."""
    try:
        with app.conversing(wire):
            await attend(wire, WyomingSession(wire, app))
    except ClientLeft:
        speaking = wire.speaking
        await wire.stop()
        if speaking and wire.left_at is not None:
            app.metrics.silenced(ROUTE, wire.left_at)
    except ConnectionError:
        return
    except Exception as error:
        reply = app.report(ROUTE, error)
        await wire.stop()
        with contextlib.suppress(ConnectionError, SlowReaderError):
            await wire.send(WyomingEvent("error", {"text": reply.message, "code": reply.code}))
    finally:
        await wire.stop()


@dataclass
class WyomingSession:
    """`queue` holds texts in the order in which they are spoken, the first one perhaps under way: the audio of two
    texts could not be told apart. `coming` is the one that is still being sent."""

    wire: WyomingWire
    app: AppState
    queue: deque[Speech] = field(default_factory=deque, init=False)
    coming: Speech | None = field(default=None, init=False)
    idle: IdleClock = field(default_factory=IdleClock, init=False)

    def wait_s(self) -> float | None:
        limit = silence_limit_s(self.app.settings, awaited=self.coming is not None, speaking=self.wire.speaking)
        return self.idle.left(self.wire.heard_at, limit)

    async def tick(self) -> None:
        """`wait_s` has the only deadline, and raises when it has passed."""

    async def handle(self, event: WyomingEvent) -> None:
        match event.kind:
            case "describe":
                info = describe(self.app.service.models, self.app.service.voices)
                await self.wire.send(WyomingEvent("info", info))
            case "ping":
                await self.wire.send(WyomingEvent("pong", {"text": event.data.get("text")}))
            case "synthesize" if self.coming is not None:
                # The whole text again, for servers that cannot stream.
                pass
            case "synthesize":
                speech = self._begin(event, streamed=False)
                speech.say(_text(event))
                await self._end(speech)
            case "synthesize-start":
                if self.coming is not None:
                    raise ProtocolError("synthesize-start before synthesize-stop", param="type")
                self.coming = self._begin(event, streamed=True)
            case "synthesize-chunk":
                self._stream(event).say(_text(event))
                await self._go_on()
            case "synthesize-stop":
                speech, self.coming = self._stream(event), None
                await self._end(speech)
            case _:
                # Events of other domains pass by on the same connection.
                return

    def _stream(self, event: WyomingEvent) -> Speech:
        if self.coming is None:
            raise ProtocolError(f"{event.kind} without synthesize-start", param="type")
        return self.coming

    def _begin(self, event: WyomingEvent, *, streamed: bool) -> Speech:
        self.app.require_ready()
        limit = self.app.settings.ws_max_contexts
        if len(self.queue) >= limit:
            raise InputTooLongError(f"at most {limit} texts may wait on a connection", param="type")
        if event.data.get("text_format") not in (None, "text"):
            raise UnsupportedError("only plain text is spoken", param="text_format")
        voice = event.data.get("voice") or {}
        name = voice.get("name") if isinstance(voice, dict) else None
        if name is not None and not isinstance(name, str):
            raise InvalidParameterError("the name of a voice is text", param="voice.name")
        model = self.app.resolve_model(None, "streaming")
        options = UtteranceOptions(_SEED, model=model.name, voice=self.app.voice_or_default(name))
        speech = Speech(self.wire, options, model.sampling_rate, streamed, self.app.settings.max_stream_chars)
        self.queue.append(speech)
        return speech

    async def _end(self, speech: Speech) -> None:
        speech.ended = True
        await self._go_on()

    async def _go_on(self) -> None:
        """Hand new text to the first one's utterance, begin it, answer those that hold nothing."""
        while self.queue and not self.queue[0].over:
            speech = self.queue[0]
            if speech.utterance is not None or speech.texts:
                if speech.utterance is None:
                    speech.utterance = self.app.service.open_stream(speech.options)
                    self.wire.speak(self._run(speech, speech.utterance))
                speech.hand_over(speech.utterance)
                return
            if not speech.ended:
                return
            await self._over(speech)

    async def _over(self, speech: Speech) -> None:
        # It stays the first until its end has been told: text that arrives meanwhile begins nothing.
        speech.over = True
        await speech.finish()
        self.queue.popleft()

    async def _run(self, speech: Speech, utterance: Utterance) -> None:
        wanted = AudioFormat(Codec.PCM_S16LE, speech.rate)
        with UtteranceMeter(self.app.metrics, ROUTE) as meter:
            meter.text()
            try:
                with contextlib.suppress(EmptyInputError):
                    end = await forward(utterance, lambda: make_encoder(wanted, wanted.rate), meter, speech)
                    if end.reason is FinishReason.LENGTH:
                        raise EngineError("synthesis reached its length limit before the text ended", code="length")
            finally:
                utterance.cancel()
        await self._over(speech)
        await self._go_on()


def _text(event: WyomingEvent) -> str:
    text = event.data.get("text")
    if not isinstance(text, str):
        raise InvalidParameterError(f"{event.kind} needs text", param="text")
    return text
