"""A server of our own for a benchmark: started, waited for, looked at, stopped."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_START_S = 180.0
_LIBRARIES = ("torch", "websockets", "httpx", "numpy", "uvicorn")


@dataclass(frozen=True)
class ServerProcess:
    """A running `sled-tts serve`."""

    url: str
    pid: int

    def resident_mb(self) -> float:
        """Resident memory in MiB. Linux only."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return round(next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024, 1)


@contextmanager
def started_server(model: str, slots: int, *extra: str) -> Iterator[ServerProcess]:
    """A server that is ready. Raises RuntimeError when it ends early, TimeoutError when it takes too long."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sled_tts.clients.main", "serve", "--model", model, "--slots", str(slots)]
    process = subprocess.Popen([*command, "--port", str(port), *extra], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url)
        yield ServerProcess(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode} before it was ready")
        try:
            if httpx.get(url + "/health/ready", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"the server was not ready after {_START_S:g} s")


def client_machine() -> dict[str, Any]:
    """Where the clients ran."""
    return {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
