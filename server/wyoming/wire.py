"""A Wyoming connection: events in, bounded sends out."""

from __future__ import annotations

import time
from asyncio import StreamReader, StreamWriter

from sled_tts.server.routes.attending import Conversation, patiently
from sled_tts.server.wyoming.framing import WyomingEvent, read_event


class ClientLeft(Exception):  # noqa: N818 - clients may leave
    """The end of the stream has been read."""


class WyomingWire(Conversation[WyomingEvent]):
    """`next` also raises ClientLeft, ConnectionError and what `read_event` raises.

    `left_at`: when the end was read from the socket, in seconds of `time.monotonic`.
    """

    def __init__(self, reader: StreamReader, writer: StreamWriter, max_bytes: int, send_timeout_s: float) -> None:
        super().__init__(self._event)
        self._reader, self._writer = reader, writer
        self._max_bytes, self._send_timeout_s = max_bytes, send_timeout_s
        self.left_at: float | None = None

    async def send(self, event: WyomingEvent) -> None:
        """Waits while the listener is slow; SlowReaderError when that takes too long, ConnectionError."""
        self._writer.write(event.to_bytes())
        await patiently(self._writer.drain(), self._send_timeout_s)

    async def _event(self) -> WyomingEvent:
        event = await read_event(self._reader, self._max_bytes)
        if event is None:
            self.left_at = time.monotonic()
            raise ClientLeft
        return event
