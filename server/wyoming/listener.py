"""The TCP side: accepts connections, and lets go of them when the server stops."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sled_tts.server.logs import get_logger
from sled_tts.server.routes.state import AppState
from sled_tts.server.wyoming.session import serve
from sled_tts.server.wyoming.wire import WyomingWire

log = get_logger(__name__)

_MAX_LINE_BYTES = 64 * 1024


@dataclass
class WyomingListener:
    """Listens on the server's host. The protocol knows no keys: whoever reaches the port can speak."""

    app: AppState
    port: int
    _server: asyncio.Server | None = field(default=None, init=False)
    _connections: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def start(self) -> int:
        """The port it listens on, also when 0 was asked for. Raises OSError when it cannot."""
        host = self.app.settings.host
        self._server = await asyncio.start_server(self._accept, host, self.port, limit=_MAX_LINE_BYTES)
        port: int = self._server.sockets[0].getsockname()[1]
        log.info("wyoming", host=host, port=port)
        return port

    async def stop(self) -> None:
        """Close the port and every connection; their utterances are cancelled."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = self.app.settings
        try:
            await serve(
                WyomingWire(reader, writer, settings.ws_max_message_bytes, settings.ws_send_timeout_s), self.app
            )
        finally:
            writer.close()
