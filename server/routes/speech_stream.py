"""An utterance as a streamed body: encoded audio, which ends cleanly only when everything has been said."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sled_tts.server.audio.encoder import AudioEncoder, encode, finish
from sled_tts.server.audio.synthetic import SYNTHETIC_HEADERS
from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished, FinishReason
from sled_tts.server.errors import EngineError, SlowReaderError
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.attending import patiently
from sled_tts.server.service import Utterance


@dataclass
class SpokenBody:
    """Events of an utterance (`first` has been read already) through an encoder.

    `expected_cut`: the caller set the length, so reaching it is what was asked for. Otherwise it means that the
    model ran away, which is no success. `finished` is set once everything has been said.
    """

    first: Event
    events: AsyncIterator[Event]
    encoder: AudioEncoder
    meter: UtteranceMeter
    route: str
    expected_cut: bool
    finished: Finished | None = field(default=None, init=False)

    async def audio(self) -> AsyncGenerator[bytes, None]:
        """Pieces of the body, none empty. Whatever is not a whole utterance raises, after what there was of it."""
        with self.meter as meter:
            try:
                event = self.first
                while not isinstance(event, Finished):
                    meter.event(event)
                    if isinstance(event, Failed):
                        raise event.error
                    if isinstance(event, AudioChunk) and (data := await encode(self.encoder, event.pcm)):
                        meter.sent()
                        yield data
                    event = await anext(self.events, Failed(EngineError("synthesis ended without saying so")))
                meter.event(event)
                if event.reason is FinishReason.CANCELLED:
                    raise EngineError("synthesis was cancelled before its end")
                if event.reason is FinishReason.LENGTH and not self.expected_cut:
                    raise EngineError("synthesis reached its length limit before the text ended", code="length")
                if data := await finish(self.encoder):
                    yield data
                self.finished = event
            except Exception as error:
                meter.metrics.error(self.route, error)
                raise


class SpeechResponse(StreamingResponse):
    """A streamed body that frees its utterance however the response ends, even before its first byte.

    `stream` is `body`, or something around it. A listener who reads nothing for `send_timeout_s` (a player that was
    paused) does not get the rest: the body has no proper end then.
    """

    def __init__(
        self,
        body: SpokenBody,
        stream: AsyncIterator[bytes],
        media_type: str,
        utterance: Utterance,
        send_timeout_s: float,
    ) -> None:
        super().__init__(stream, media_type=media_type, headers=dict(SYNTHETIC_HEADERS))
        self._body, self._utterance, self._send_timeout_s = body, utterance, send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, lambda message: patiently(send(message), self._send_timeout_s))
        except SlowReaderError as error:
            self._body.meter.metrics.error(self._body.route, error)
        finally:
            self._utterance.cancel()
