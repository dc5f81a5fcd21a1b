"""A text on its way to a Wyoming client: audio between `audio-start` and `audio-stop`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from sled_tts.server.engine.request import AudioChunk, Event
from sled_tts.server.errors import InputTooLongError
from sled_tts.server.service import Utterance, UtteranceOptions
from sled_tts.server.wyoming.framing import WyomingEvent
from sled_tts.server.wyoming.wire import WyomingWire


@dataclass
class Speech:
    """`streamed`: it comes in chunks, and is answered with `synthesize-stopped`. `rate` in Hz.

    `texts` are those that no utterance has taken yet; `ended` once there will be no more, `over` while its end is told.
    A sink for `forward`; `silenced` stays False: only the end of its connection interrupts an utterance.
    """

    wire: WyomingWire
    options: UtteranceOptions
    rate: int
    streamed: bool
    max_chars: int
    texts: deque[str] = field(default_factory=deque, init=False)
    ended: bool = field(default=False, init=False)
    over: bool = field(default=False, init=False)
    utterance: Utterance | None = field(default=None, init=False)
    silenced: bool = field(default=False, init=False)
    _chars: int = field(default=0, init=False)
    _samples: int = field(default=0, init=False)
    _started: bool = field(default=False, init=False)

    def say(self, text: str) -> None:
        """More text; white space before the first word is none. Raises InputTooLongError."""
        self._chars += len(text)
        if self._chars > self.max_chars:
            raise InputTooLongError(f"a text may have {self.max_chars} characters", param="text")
        if text.strip() or self.texts or self.utterance is not None:
            self.texts.append(text)

    def hand_over(self, utterance: Utterance) -> None:
        """Everything that has not been taken yet, and the end."""
        while self.texts:
            utterance.append(self.texts.popleft())
        if self.ended:
            utterance.close()

    async def audio(self, data: bytes, _: AudioChunk | None) -> None:
        await self._start()
        await self.wire.send(WyomingEvent("audio-chunk", self._shape(round(1000 * self._samples / self.rate)), data))
        self._samples += len(data) // 2

    async def event(self, event: Event) -> None:
        """Nothing but audio has an event here."""

    async def finish(self) -> None:
        """Everything has been said, also when that was nothing."""
        await self._start()
        await self.wire.send(WyomingEvent("audio-stop", {"timestamp": None}))
        if self.streamed:
            await self.wire.send(WyomingEvent("synthesize-stopped"))

    async def _start(self) -> None:
        if not self._started:
            self._started = True
            await self.wire.send(WyomingEvent("audio-start", self._shape(0) | {"synthetic": True}))

    def _shape(self, timestamp: int) -> dict[str, Any]:
        return {"rate": self.rate, "width": 2, "channels": 1, "timestamp": timestamp}
