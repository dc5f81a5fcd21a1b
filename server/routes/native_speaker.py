"""One utterance of a native WebSocket: its events as JSON and binary frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sled_tts.server.audio.encoder import AudioEncoder, make_encoder
from sled_tts.server.audio.formats import AudioFormat, Codec
from sled_tts.server.engine.request import (
    AudioChunk,
    Event,
    Finished,
    TextFlushed,
    TextSkipped,
    TextStarved,
    WordsSpoken,
    WordTiming,
)
from sled_tts.server.errors import InputTooLongError, RequestError, reply_for
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.forwarding import forward
from sled_tts.server.routes.native_messages import Start
from sled_tts.server.routes.replies import error_body
from sled_tts.server.routes.wire import Wire
from sled_tts.server.service import Utterance

# An emoji, say: what a text LLM wrote is no reason to hang up.
_NOTHING_TO_SAY = frozenset({"empty_input", "unsupported_text"})
# Codec and bytes a sample of each `format`.
_FORMATS: dict[str, tuple[Codec, int]] = {
    "s16le": (Codec.PCM_S16LE, 2),
    "f32le": (Codec.PCM_F32LE, 4),
    "mulaw": (Codec.MULAW, 1),
    "alaw": (Codec.ALAW, 1),
}


@dataclass
class Speaker:
    """Forwards an utterance to its wire. `run` is a task of its own; text goes in from the reader's side."""

    wire: Wire
    utterance: Utterance
    start: Start
    seed: int
    meter: UtteranceMeter
    max_chars: int
    chars: int = field(default=0, init=False)
    text_ended: bool = field(default=False, init=False)
    cancelled: bool = field(default=False, init=False)
    chunks: int = field(default=0, init=False)
    samples: int = field(default=0, init=False)
    _worked_since: float | None = field(default=None, init=False)

    @property
    def sample_rate(self) -> int:
        return self.start.sample_rate or self.utterance.model.sampling_rate

    @property
    def silenced(self) -> bool:
        return self.cancelled

    def append(self, text: str) -> None:
        """Raises InputTooLongError beyond `max_chars` in all."""
        self._count(len(text), "text")
        self.utterance.append(text)

    def append_tokens(self, ids: Sequence[int]) -> None:
        """A subword counts as one character at least, so the same limit bounds both."""
        self._count(len(ids), "tokens")
        self.utterance.append_tokens(ids)

    def end(self) -> None:
        self.text_ended = True
        self.utterance.close()

    def cancel(self, heard_at: float) -> None:
        """Stop at once; `heard_at` as in `UtteranceMeter.interrupted`."""
        self.meter.interrupted(heard_at)
        self.text_ended = self.cancelled = True
        self.utterance.cancel()

    def _count(self, more: int, param: str) -> None:
        self.chars += more
        if self.chars > self.max_chars:
            raise InputTooLongError(f"an utterance may have {self.max_chars} characters", param=param)
        self.meter.text()
        if self._worked_since is None:
            self._worked_since = time.perf_counter()

    async def run(self) -> None:
        """Until `done` has been sent, or the `error` of an utterance that had nothing to say. Raises what ended the
        utterance otherwise."""
        with self.meter:
            try:
                await self.wire.send(self._started())
                end = await forward(self.utterance, self._encoder, self.meter, self)
                await self.wire.send(self._done(end))
            except RequestError as error:
                if (reply := reply_for(error)).code not in _NOTHING_TO_SAY:
                    raise
                await self.wire.send({"type": "error", "id": self.start.id, **error_body(reply)})
            finally:
                self.utterance.cancel()

    async def audio(self, data: bytes, chunk: AudioChunk | None) -> None:
        samples = len(data) // _FORMATS[self.start.format][1]
        now = time.perf_counter()
        latency = 0.0 if self._worked_since is None else now - self._worked_since
        self._worked_since = now
        head: dict[str, Any] = {"type": "chunk", "id": self.start.id, "samples": samples, "sequence": self.chunks}
        # What an encoder held back to the end belongs to frames that were counted before.
        head["frames"] = 0 if chunk is None else chunk.frames
        head["lead_s"] = None if chunk is None else round(chunk.lead_s, 4)
        head["latency_s"] = round(latency, 4)
        self.chunks += 1
        self.samples += samples
        await self.wire.send(head)
        await self.wire.send_audio(data)

    async def event(self, event: Event) -> None:
        if isinstance(event, TextStarved):
            await self.wire.send({"type": "starved", "id": self.start.id, "frames": event.frames})
        elif isinstance(event, TextSkipped):
            message = f"left out, because this voice does not speak {event.script}"
            head = {"type": "warning", "id": self.start.id, "code": "unsupported_text", "message": message}
            await self.wire.send(head | asdict(event))
        elif isinstance(event, TextFlushed):
            await self.wire.send({"type": "flushed", "id": self.start.id, "number": event.number})
        elif isinstance(event, WordsSpoken):
            words = [self._heard(word) for word in event.words]
            await self.wire.send({"type": "words", "id": self.start.id, "words": words})

    def _heard(self, word: WordTiming) -> dict[str, Any]:
        times = {"start_s": round(word.start_s / self.start.speed, 4), "end_s": round(word.end_s / self.start.speed, 4)}
        return asdict(word) | times

    def _encoder(self) -> AudioEncoder:
        wanted = AudioFormat(_FORMATS[self.start.format][0], self.sample_rate)
        return make_encoder(wanted, self.utterance.model.sampling_rate, speed=self.start.speed)

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
            "cfg_scale": self.utterance.cfg_scale,
            "speed": self.start.speed,
            "synthetic": True,
        }

    def _done(self, event: Finished) -> dict[str, Any]:
        return {
            "type": "done",
            "id": self.start.id,
            "finish_reason": str(event.reason),
            "duration_s": round(self.samples / self.sample_rate, 4),
            "samples": self.samples,
            "frames": event.frames,
            "ttfa_s": None if self.meter.ttfa_s is None else round(self.meter.ttfa_s, 4),
            "rtf": None if event.rtf is None else round(event.rtf, 4),
            "cancel_ms": None if self.meter.cancel_s is None else round(1000 * self.meter.cancel_s, 3),
            "seed": self.seed,
        }
