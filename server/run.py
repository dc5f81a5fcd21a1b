"""uvicorn as real clients need it."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from sled_tts.server.settings import Settings


def make_server(app: FastAPI, settings: Settings) -> uvicorn.Server:
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
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
        server_header=False,
    )
    return uvicorn.Server(config)


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
