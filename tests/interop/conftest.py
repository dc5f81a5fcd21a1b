"""A server process with the built-in voice on real ports: what the clients of other services connect to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
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
    with ExitStack() as serving:
        # Only for that process: servers that tests run in this one must not want its port.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLED_TTS_WYOMING_PORT", str(port))
            # Most of these clients cannot send a seed, and not every reading of the built-in voice is recognised.
            patch.setenv("SLED_TTS_SEED", "3")
            url = serving.enter_context(running_server("http://127.0.0.1:9", None, start=True))
        yield Live(url, port)
