"""The streams that are live, and how each of them ends: what it has said is heard first, its slot is free by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sled_tts.server.engine.delivery import Delivery
from sled_tts.server.engine.request import Failed, FinishReason, Terminal
from sled_tts.server.engine.slots import SlotPool
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.engine.streams import Stream
from sled_tts.server.engine.work import StepRunner
from sled_tts.server.errors import EngineError


@dataclass
class Roster:
    """`streams` by slot; those that will say no more stay until what they have said was delivered. Engine thread only;
    other threads take slots from `pool`."""

    runner: StepRunner
    pool: SlotPool
    delivery: Delivery
    stats: EngineStats
    streams: dict[int, Stream] = field(default_factory=dict, init=False)
    _closing: list[Stream] = field(default_factory=list, init=False)

    def end(self, stream: Stream, event: Terminal) -> None:
        """Free the slot first: whoever hears the end may start the next utterance at once."""
        del self.streams[stream.slot]
        stream.over = True
        try:
            self.runner.close(stream.slot)
        finally:
            if not stream.leased:
                self.pool.release(stream.slot)
            self.stats.ended(event)
            stream.outlet.emit(event)

    def close(self, stream: Stream, reason: FinishReason) -> None:
        """Nothing more will be said; the stream ends when all that was said has been heard."""
        stream.ending = reason
        self._closing.append(stream)

    def finish(self, stream: Stream, reason: FinishReason) -> None:
        """End a stream outside a step; what it has said and not yet decoded is delivered unless cancelled."""
        if reason is FinishReason.CANCELLED:
            self.end(stream, self.delivery.summary(stream, reason))
            return
        self.close(stream, reason)
        self.decode([stream])

    def decode(self, streams: Sequence[Stream]) -> None:
        """Begin to decode what is due of these streams."""
        self._decode_failed(self.delivery.launch(streams))

    def hear(self, leave: int) -> None:
        """Hand out what has been decoded, but for the last `leave` batches that may still be at work; then end the
        streams that have no more to come."""
        self._decode_failed(self.delivery.collect(leave))
        waiting, self._closing = self._closing, []
        for stream in waiting:
            if stream.over:
                continue
            if stream.decoding or stream.ending is None:
                self._closing.append(stream)
            else:
                self.end(stream, self.delivery.summary(stream, stream.ending))

    def fail_all(self, error: Exception) -> None:
        """End every stream with an error; nothing under way is waited for."""
        self._closing.clear()
        self.delivery.forget()
        for stream in list(self.streams.values()):
            self.end(stream, Failed(error))

    def _decode_failed(self, failed: Sequence[tuple[Stream, EngineError]]) -> None:
        for stream, error in failed:
            if not stream.over:  # several of its decodes may have failed
                self.end(stream, Failed(error))
