"""A server of one's own for one command, when none is running and the server is installed here."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from tempfile import TemporaryFile
from typing import IO

from rich.console import Console

from sled_tts.clients.errors import ServerUnreachableError
from sled_tts.clients.rest import SledClient


def server_installed() -> bool:
    """Whether this environment has the `serve` command."""
    return any(point.name == "serve" for point in entry_points(group="sled_tts.commands"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_server(url: str, api_key: str | None, *, start: bool) -> Iterator[str]:
    """Yield the URL of a ready server: the one at `url`, or (with `start`) one started for the occasion.

    Raises ServerUnreachableError with what to do about it.
    """
    if SledClient(url, api_key).is_ready():
        yield url
        return
    if not start or not server_installed():
        raise ServerUnreachableError(
            f"no server is ready at {url}; start one with `sled-tts serve`"
            + ("" if server_installed() else " (after `pip install 'sled-tts[server]'`)")
        )
    waiting = Console(stderr=True).status("no server is running: loading the model here")
    with waiting, started_process() as (own, _):
        waiting.stop()
        yield own


@contextmanager
def started_process(*options: str, limit_s: float = 300.0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`sled-tts serve` on a free port of this machine: its URL and its process, ready, and stopped at the end.

    Raises ServerUnreachableError when it ends early or is not ready after `limit_s` seconds.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "sled_tts.clients.main", "serve", "--host", "127.0.0.1", "--port", str(port)]
    # A file, not a pipe: nobody reads the log while the server runs, and a full pipe would stop it.
    with TemporaryFile() as log:
        process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=log)
        try:
            _wait_until_ready(process, log, SledClient(url), limit_s)
            yield url, process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], log: IO[bytes], client: SledClient, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not client.is_ready():
        if process.poll() is not None:
            log.seek(0)
            told = log.read().decode(errors="replace")[-2000:]
            raise ServerUnreachableError(f"the server stopped while starting:\n{told}")
        if time.monotonic() > deadline:
            raise ServerUnreachableError(f"the server was not ready after {limit_s:g} s")
        time.sleep(0.1)
