"""One utterance of a native WebSocket: its events as JSON and binary frames."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.websockets import WebSocket

from sled_tts.server.audio.encoder import AudioEncoder
from sled_tts.server.audio.pcm import PcmEncoder
from sled_tts.server.audio.resample import ResamplingEncoder
from sled_tts.server.engine.request import AudioChunk, Failed, Finished, TextSkipped, TextStarved
from sled_tts.server.errors import EngineError, InputTooLongError, SlowReaderError
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.native_messages import Start
from sled_tts.server.service import Utterance


@dataclass
class Speaker:
    """Forwards an utterance to its socket. `run` is a task of its own; text goes in from the reader's side."""

    socket: WebSocket
    utterance: Utterance
    start: Start
    seed: int
    meter: UtteranceMeter
    max_chars: int
    send_timeout_s: float
    chars: int = field(default=0, init=False)
    text_ended: bool = field(default=False, init=False)
    cancelled: bool = field(default=False, init=False)
    chunks: int = field(default=0, init=False)

    @property
    def sample_rate(self) -> int:
        return self.start.sample_rate or self.utterance.model.sampling_rate

    def append(self, text: str) -> None:
        """Raises InputTooLongError beyond `max_chars` in all."""
        self._count(len(text), "text")
        self.meter.text()
        self.utterance.append(text)

    def append_tokens(self, ids: Sequence[int]) -> None:
        """A subword counts as one character at least, so the same limit bounds both."""
        self._count(len(ids), "tokens")
        self.meter.text()
        self.utterance.append_tokens(ids)

    def end(self) -> None:
        self.text_ended = True
        self.utterance.close()

    def cancel(self) -> None:
        self.text_ended = self.cancelled = True
        self.utterance.cancel()

    def _count(self, more: int, param: str) -> None:
        self.chars += more
        if self.chars > self.max_chars:
            raise InputTooLongError(f"an utterance may have {self.max_chars} characters", param=param)

    async def run(self) -> None:
        """Until `done` has been sent. Raises what ended the utterance otherwise."""
        with self.meter:
            try:
                await self.send_json(self._started())
                await self._forward()
            finally:
                self.utterance.cancel()

    async def _forward(self) -> None:
        encoder = self._encoder()
        sent_samples = 0
        async for event in self.utterance:
            self.meter.event(event)
            if isinstance(event, AudioChunk):
                sent_samples += await self._send_audio(encoder.encode(event.pcm), event)
            elif isinstance(event, TextStarved):
                await self.send_json({"type": "starved", "id": self.start.id, "frames": event.frames})
            elif isinstance(event, TextSkipped):
                await self.send_json(self._warning(event))
            elif isinstance(event, Failed):
                raise event.error
            elif isinstance(event, Finished):
                if event.reason != "cancelled":
                    sent_samples += await self._send_audio(encoder.finish(), None)
                await self.send_json(self._done(event, sent_samples))
                return
        raise EngineError("synthesis ended without saying so")

    async def _send_audio(self, data: bytes, event: AudioChunk | None) -> int:
        if not data:
            return 0
        samples = len(data) // (4 if self.start.format == "f32le" else 2)
        head: dict[str, Any] = {"type": "chunk", "id": self.start.id, "samples": samples, "sequence": self.chunks}
        # What a resampler held back to the end belongs to frames that were counted before.
        head["frames"] = 0 if event is None else event.frames
        head["lead_s"] = None if event is None else round(event.lead_s, 4)
        self.chunks += 1
        await self.send_json(head)
        await self._bounded(self.socket.send_bytes(data))
        self.meter.sent()
        return samples

    async def send_json(self, message: dict[str, Any]) -> None:
        await self._bounded(self.socket.send_text(orjson.dumps(message).decode()))

    async def _bounded(self, sending: Any) -> None:
        try:
            async with asyncio.timeout(self.send_timeout_s):
                await sending
        except TimeoutError:
            raise SlowReaderError(f"no audio was read for {self.send_timeout_s:g} s") from None

    def _encoder(self) -> AudioEncoder:
        encoder = PcmEncoder(self.start.format)
        own = self.utterance.model.sampling_rate
        return encoder if self.sample_rate == own else ResamplingEncoder(encoder, own, self.sample_rate)

    def _started(self) -> dict[str, Any]:
        model = self.utterance.model
        return {
            "type": "started",
            "id": self.start.id,
            "model": model.name,
            "kind": model.kind,
            "by_sentence": self.utterance.by_sentence,
            "sample_rate": self.sample_rate,
            "format": self.start.format,
            "channels": 1,
            "n": self.start.n or model.n,
            "m": self.start.m or model.m,
            "seed": self.seed,
            "cfg_scale": self.start.cfg_scale,
        }

    def _warning(self, event: TextSkipped) -> dict[str, Any]:
        return {
            "type": "warning",
            "id": self.start.id,
            "code": "unsupported_text",
            "message": f"left out, because this voice does not speak {event.script}",
            "script": event.script,
            "sample": event.sample,
            "begin": event.begin,
            "end": event.end,
        }

    def _done(self, event: Finished, samples: int) -> dict[str, Any]:
        return {
            "type": "done",
            "id": self.start.id,
            "finish_reason": str(event.reason),
            "duration_s": round(samples / self.sample_rate, 4),
            "samples": samples,
            "frames": event.frames,
            "ttfa_s": None if self.meter.ttfa_s is None else round(self.meter.ttfa_s, 4),
            "rtf": None if event.rtf is None else round(event.rtf, 4),
            "seed": self.seed,
        }
