"""A server process with the built-in voice on real ports: what the clients of other services connect to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sled_tts.clients.local_server import running_server


@dataclass(frozen=True)
class Live:
    """Where it listens; `url` is its HTTP base, without a path."""

    url: str
    wyoming_port: int

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "SLED_TTS_WYOMING_PORT", str(port))
        with running_server("http://127.0.0.1:9", None, start=True) as url:
            yield Live(url, port)
