"""One ElevenLabs context on its way from an utterance to the wire: audio with the characters heard in it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sled_tts.server.audio.encoder import AudioEncoder, finish, make_encoder
from sled_tts.server.audio.formats import AudioFormat, Codec
from sled_tts.server.engine.request import AudioChunk, Event, Finished, FinishReason, Float32, TextFlushed, WordsSpoken
from sled_tts.server.errors import EmptyInputError, EngineError
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes import elevenlabs_messages as wire_format
from sled_tts.server.routes.elevenlabs_alignment import Alignment, Character, relative
from sled_tts.server.routes.elevenlabs_context import Context
from sled_tts.server.routes.forwarding import forward
from sled_tts.server.routes.wire import Wire
from sled_tts.server.service import Utterance

# A second file in the middle of a stream breaks decoders, so that these end with the context, not with a flush.
_CONTAINERS = (Codec.MP3, Codec.OPUS)


@dataclass
class CountingEncoder:
    """Any encoder, with a count of the samples that went in: some hold back whole chunks.

    `whole`: it goes on over flushes, and only `Speaker` ends it.
    """

    inner: AudioEncoder
    whole: bool
    samples: int = field(default=0, init=False)

    @property
    def media_type(self) -> str:
        return self.inner.media_type

    @property
    def heavy(self) -> bool:
        return self.inner.heavy

    def encode(self, pcm: Float32) -> bytes:
        self.samples += pcm.size
        return self.inner.encode(pcm)

    def finish(self) -> bytes:
        return b"" if self.whole else self.inner.finish()

    def take(self) -> int:
        """Samples since the last call."""
        taken, self.samples = self.samples, 0
        return taken


@dataclass
class Speaker:
    """A context that has something to say. `absolute`: times are told from the beginning of the context; otherwise
    each message goes on from where the characters of the one before it ended, as clients add them up."""

    wire: Wire
    context: Context
    utterance: Utterance
    wanted: AudioFormat
    absolute: bool
    meter: UtteranceMeter
    alignment: Alignment = field(init=False)
    _encoder: CountingEncoder = field(init=False)
    _told_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.alignment = Alignment(self.context.speed)
        self._encoder = self._new_encoder()

    @property
    def silenced(self) -> bool:
        return self.context.aborted

    def say(self, text: str) -> None:
        self.alignment.append(text)
        self.utterance.append(text)

    def flush(self) -> None:
        self.alignment.mark()
        self.utterance.flush()

    def end(self) -> None:
        self.alignment.mark()
        self.utterance.close()

    def silence(self) -> None:
        """No more audio from here on; the slot is free."""
        self.context.ended = self.context.aborted = True
        self.utterance.cancel()

    async def audio(self, data: bytes, _: AudioChunk | None) -> None:
        await self._tell(data, self.alignment.chunk(self._seconds()))

    async def event(self, event: Event) -> None:
        if isinstance(event, WordsSpoken):
            self.alignment.words(event.words)
        elif isinstance(event, TextFlushed):
            await self._rest()

    async def forward(self) -> None:
        """Until the last audio has been sent. Raises what the utterance failed with; one that only held what cannot
        be spoken has not failed."""
        with self.meter:
            try:
                end = await forward(self.utterance, self._next_encoder, self.meter, self)
            except EmptyInputError:
                return
            finally:
                self.utterance.cancel()
            if end.reason is FinishReason.CANCELLED:
                return
            if self._encoder.whole and (data := await finish(self._encoder.inner)) and not self.silenced:
                await self.audio(data, None)
            await self._finished(end)

    async def _finished(self, end: Finished) -> None:
        if end.reason is FinishReason.LENGTH:
            raise EngineError("synthesis reached its length limit before the text ended", code="length")
        while self.alignment.marked and not self.silenced:
            await self._rest()

    async def _rest(self) -> None:
        """Characters that are left when a flush, or everything, has been spoken."""
        characters = self.alignment.chunk(self._seconds()) + self.alignment.spoken()
        if characters:
            await self._tell(b"", characters)

    async def _tell(self, data: bytes, characters: list[Character]) -> None:
        told = characters if self.absolute else relative(characters, self._told_s)
        if characters:
            self._told_s = characters[-1].start_s + characters[-1].duration_s
        await self.wire.send(wire_format.audio(self.context.context_id, data, told))
        self.context.active_at = time.monotonic()

    def _seconds(self) -> float:
        return self._encoder.take() / self.utterance.model.sampling_rate

    def _next_encoder(self) -> CountingEncoder:
        if self._encoder.whole:
            return self._encoder
        left = self._encoder.samples
        self._encoder = self._new_encoder()
        self._encoder.samples = left
        return self._encoder

    def _new_encoder(self) -> CountingEncoder:
        encoder = make_encoder(self.wanted, self.utterance.model.sampling_rate, speed=self.context.speed)
        return CountingEncoder(encoder, self.wanted.codec in _CONTAINERS)
