"""A server of our own for a benchmark: started, waited for, looked at, stopped."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sled_tts.clients.local_server import started_process
from sled_tts.model.cores import usable_cores

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
    """A server that is ready. Raises ServerUnreachableError when it ends early or takes too long."""
    with started_process("--model", model, "--slots", str(slots), *extra) as (url, process):
        yield ServerProcess(url, process.pid)


def client_machine() -> dict[str, Any]:
    """Where the clients ran."""
    return {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
