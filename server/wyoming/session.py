"""One Wyoming connection: what it asks for, one utterance at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.audio.formats import AudioFormat, Codec
from sled_tts.server.engine.request import AudioChunk, Event, FinishReason
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
from sled_tts.server.routes.contexts import IdleClock, forward, report, substitute_voice
from sled_tts.server.routes.state import AppState
from sled_tts.server.service import Utterance, UtteranceOptions
from sled_tts.server.wyoming.framing import WyomingEvent, read_event
from sled_tts.server.wyoming.info import describe

ROUTE = "wyoming"
# The protocol has no field for it: the same sentence is always said the same way.
_SEED = 0


@dataclass
class _Speech:
    """A text on its way. `streamed`: it comes in chunks, and is answered with `synthesize-stopped`."""

    options: UtteranceOptions
    streamed: bool
    chars: int = 0
    utterance: Utterance | None = None
    samples: int = 0
    started: bool = False


@dataclass
class WyomingSession:
    """`speech` is the text that is still coming in, `speaking` the task that speaks the last one."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    app: AppState
    speech: _Speech | None = field(default=None, init=False)
    speaking: asyncio.Task[None] | None = field(default=None, init=False)
    heard_at: float = field(default_factory=time.monotonic, init=False)
    idle: IdleClock = field(init=False)

    def __post_init__(self) -> None:
        self.idle = IdleClock(self.app.settings.ws_idle_timeout_s)

    async def serve(self) -> None:
        """Until the client leaves or something fails; a failure is told as an `error` event first."""
        try:
            while (event := await self._next()) is not None:
                await self._handle(event)
        except ConnectionError:
            return
        except Exception as error:
            reply = report(self.app, ROUTE, error)
            with contextlib.suppress(ConnectionError, SlowReaderError):
                await self._send(WyomingEvent("error", {"text": reply.message, "code": reply.code}))
        finally:
            await self._stop_speaking()

    async def _next(self) -> WyomingEvent | None:
        """The next event. Raises what the utterance under way failed with, or IdleTimeoutError."""
        reading = asyncio.ensure_future(read_event(self.reader, self.app.settings.ws_max_message_bytes))
        try:
            while not reading.done():
                waiting: set[asyncio.Future[Any]] = {reading}
                if self.speaking is not None:
                    waiting.add(self.speaking)
                left = self.idle.left(self.heard_at, busy=self.speaking is not None and self.speech is None)
                await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                self._collect()
            self.heard_at = time.monotonic()
            return reading.result()
        finally:
            reading.cancel()

    def _collect(self) -> None:
        if self.speaking is not None and self.speaking.done():
            task, self.speaking = self.speaking, None
            task.result()

    async def _handle(self, event: WyomingEvent) -> None:
        match event.kind:
            case "describe":
                await self._send(WyomingEvent("info", describe(self.app.service.models, self.app.service.voices)))
            case "ping":
                await self._send(WyomingEvent("pong", {"text": event.data.get("text")}))
            case "synthesize" if self.speech is not None:
                # The whole text again, for servers that cannot stream.
                pass
            case "synthesize":
                await self._begin(event, streamed=False)
                self._say(_text(event))
                await self._end()
            case "synthesize-start":
                await self._begin(event, streamed=True)
            case "synthesize-chunk":
                self._require_stream(event)
                self._say(_text(event))
            case "synthesize-stop":
                self._require_stream(event)
                await self._end()
            case _:
                # Events of other domains pass by on the same connection.
                return

    def _require_stream(self, event: WyomingEvent) -> None:
        if self.speech is None or not self.speech.streamed:
            raise ProtocolError(f"{event.kind} without synthesize-start", param="type")

    async def _begin(self, event: WyomingEvent, *, streamed: bool) -> None:
        if self.speech is not None:
            raise ProtocolError(f"{event.kind} before synthesize-stop", param="type")
        self.app.require_ready()
        if event.data.get("text_format") not in (None, "text"):
            raise UnsupportedError("only plain text is spoken", param="text_format")
        if self.speaking is not None:
            # One after another: the audio of two texts could not be told apart.
            await asyncio.wait({self.speaking})
            self._collect()
        voice = event.data.get("voice") or {}
        name = voice.get("name") if isinstance(voice, dict) else None
        if name is not None and not isinstance(name, str):
            raise InvalidParameterError("the name of a voice is text", param="voice.name")
        model = self.app.resolve_model(None, "streaming")
        options = UtteranceOptions(_SEED, model=model.name, voice=substitute_voice(self.app, name))
        self.speech = _Speech(options, streamed)

    def _say(self, text: str) -> None:
        speech = self.speech
        assert speech is not None
        speech.chars += len(text)
        limit = self.app.settings.max_stream_chars
        if speech.chars > limit:
            raise InputTooLongError(f"a text may have {limit} characters", param="text")
        if speech.utterance is None:
            if not text.strip():
                return
            speech.utterance = self.app.service.open_stream(speech.options)
            self.speaking = asyncio.create_task(self._speak(speech, speech.utterance))
        speech.utterance.append(text)

    async def _end(self) -> None:
        speech, self.speech = self.speech, None
        assert speech is not None
        if speech.utterance is not None:
            speech.utterance.close()
        else:
            await self._audio_end(speech)

    async def _speak(self, speech: _Speech, utterance: Utterance) -> None:
        wanted = AudioFormat(Codec.PCM_S16LE, utterance.model.sampling_rate)
        with UtteranceMeter(self.app.metrics, ROUTE) as meter:
            meter.text()
            try:
                sink = _Sink(self, speech, wanted.rate)
                with contextlib.suppress(EmptyInputError):
                    end = await forward(utterance, lambda: make_encoder(wanted, wanted.rate), meter, sink)
                    if end.reason is FinishReason.LENGTH:
                        raise EngineError("synthesis reached its length limit before the text ended", code="length")
            finally:
                utterance.cancel()
        await self._audio_end(speech)

    async def _audio_end(self, speech: _Speech) -> None:
        if not speech.started:
            await self.start_audio(speech, self.app.resolve_model(speech.options.model, "streaming").sampling_rate)
        await self._send(WyomingEvent("audio-stop", {"timestamp": None}))
        if speech.streamed:
            await self._send(WyomingEvent("synthesize-stopped"))

    async def start_audio(self, speech: _Speech, rate: int) -> None:
        """Once, before the first chunk; also when there is none."""
        if not speech.started:
            speech.started = True
            await self._send(WyomingEvent("audio-start", _shape(rate, 0)))

    async def send_chunk(self, speech: _Speech, data: bytes, rate: int) -> None:
        """16-bit samples, with the time of the first one."""
        await self._send(WyomingEvent("audio-chunk", _shape(rate, round(1000 * speech.samples / rate)), data))
        speech.samples += len(data) // 2

    async def _send(self, event: WyomingEvent) -> None:
        limit = self.app.settings.ws_send_timeout_s
        self.writer.write(event.to_bytes())
        try:
            async with asyncio.timeout(limit):
                await self.writer.drain()
        except TimeoutError:
            raise SlowReaderError(f"no audio was read for {limit:g} s") from None

    async def _stop_speaking(self) -> None:
        task, self.speaking = self.speaking, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()


@dataclass
class _Sink:
    """`silenced` stays False: only the end of its connection interrupts an utterance."""

    session: WyomingSession
    speech: _Speech
    rate: int
    silenced: bool = False

    async def audio(self, data: bytes, chunk: AudioChunk | None) -> None:
        await self.session.start_audio(self.speech, self.rate)
        await self.session.send_chunk(self.speech, data, self.rate)

    async def event(self, event: Event) -> None:
        """Nothing but audio has an event here."""


def _text(event: WyomingEvent) -> str:
    text = event.data.get("text")
    if not isinstance(text, str):
        raise InvalidParameterError(f"{event.kind} needs text", param="text")
    return text


def _shape(rate: int, timestamp: int) -> dict[str, Any]:
    return {"rate": rate, "width": 2, "channels": 1, "timestamp": timestamp}
