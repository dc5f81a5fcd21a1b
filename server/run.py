"""uvicorn as real clients need it."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import socket
import time
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from sled_tts.server.routes.state import AppState, state_of_app
from sled_tts.server.settings import Settings

# How often a server that stops looks whether somebody is still spoken to; the last message needs as long to get out.
_LOOK_S = 0.05
# Longer than clients (5 s for httpx, so for OpenAI's) and load balancers (60 s) keep an idle connection: if the server
# closed first, a request sent at that moment would fail.
_KEEP_ALIVE_S = 75


class SpeechServer(uvicorn.Server):
    """One that lets WebSockets be spoken to until their utterances end: uvicorn alone waits for HTTP answers only."""

    def __init__(self, config: uvicorn.Config, state: AppState) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, let open utterances end for as long as the settings say, then close them all."""
        self._state.stopping = True
        for server in self.servers:
            server.close()
        deadline = time.monotonic() + self._state.settings.shutdown_timeout_s
        while self._state.speaking and time.monotonic() < deadline and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(_LOOK_S)
        # What is left of it is for HTTP; closing takes a moment in any case.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(deadline - time.monotonic()))
        await super().shutdown(sockets)


def make_server(app: FastAPI, settings: Settings) -> SpeechServer:
    """A configured server, not started.

    Compression is off: PCM does not compress and the attempt costs latency. Message size is bounded before anything
    reads a message, and pings find listeners that have gone without a word.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        # At level info uvicorn logs the query string of every WebSocket, which may hold a key.
        log_level="warning",
        access_log=False,
        # httptools, which would be taken where it is installed, answers HTTP/1.0 in chunks.
        http="h11",
        ws_per_message_deflate=False,
        ws_max_size=settings.ws_max_message_bytes,
        ws_ping_interval=settings.ws_ping_s,
        ws_ping_timeout=settings.ws_ping_s,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    return SpeechServer(config, state_of_app(app))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed (it is not for Windows)."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


def bound_port(server: uvicorn.Server) -> int:
    """The port it listens on, also when 0 was asked for. The server must have started."""
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port
