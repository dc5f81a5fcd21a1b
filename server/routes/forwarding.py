"""How an utterance reaches a listener, whatever the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sled_tts.server.audio.encoder import AudioEncoder, encode, finish
from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished, FinishReason, TextFlushed
from sled_tts.server.errors import EngineError
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.service import Utterance


class Sink(Protocol):
    """Where an utterance goes."""

    @property
    def silenced(self) -> bool:
        """Whether the listener has interrupted: no more audio may reach them."""

    async def audio(self, data: bytes, chunk: AudioChunk | None) -> None:
        """Encoded audio; `chunk` is None for what an encoder held back."""

    async def event(self, event: Event) -> None:
        """Anything else that is not terminal."""


async def forward(
    utterance: Utterance, new_encoder: Callable[[], AudioEncoder], meter: UtteranceMeter, sink: Sink
) -> Finished:
    """Hand a whole utterance on. Raises what it failed with; the caller cancels it in every case.

    All audio before a flush has been handed on when its `TextFlushed` is, what the encoder held back included.
    """
    encoder = new_encoder()
    async for event in utterance:
        meter.event(event)
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, AudioChunk):
            await _send(sink, meter, await encode(encoder, event.pcm), event)
        elif isinstance(event, Finished):
            if event.reason is not FinishReason.CANCELLED:
                await _send(sink, meter, await finish(encoder), None)
            return event
        else:
            if isinstance(event, TextFlushed):
                await _send(sink, meter, await finish(encoder), None)
                encoder = new_encoder()
            if not sink.silenced:
                await sink.event(event)
    raise EngineError("synthesis ended without saying so")


async def _send(sink: Sink, meter: UtteranceMeter, data: bytes, chunk: AudioChunk | None) -> None:
    if data and not sink.silenced:
        await sink.audio(data, chunk)
        meter.sent()
