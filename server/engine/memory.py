"""How many streams memory holds: decided once, at start, so that no stream that was let in can run out of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from sled_tts.model.errors import ConfigError

log = logging.getLogger(__name__)

# Of what is free at start: the rest is for activations, audio in queues and other programs.
AUTO_SHARE = 0.8


@dataclass(frozen=True)
class MemoryLimit:
    """Bytes that caches may take; `asked` says that an operator chose them. None is unlimited (nothing is known)."""

    bytes: int | None
    asked: bool = False

    def shared(self, models: int) -> MemoryLimit:
        """An equal part for each of some models."""
        return self if self.bytes is None else MemoryLimit(self.bytes // models, self.asked)

    def slots(self, wanted: int, stream_bytes: int, stream_s: float, model: str) -> int:
        """How many of `wanted` streams of `stream_bytes` fit, at most `wanted`. Raises ConfigError when none does."""
        if self.bytes is None:
            return wanted
        fitting = self.bytes // stream_bytes
        if fitting < 1:
            raise ConfigError(
                f"a stream of {model} ({stream_s:.0f} s) needs {stream_bytes} bytes; "
                f"{'kv_memory_bytes allows' if self.asked else 'free memory allows'} {self.bytes}",
                param="kv_memory_bytes",
            )
        if fitting < wanted:
            log.warning(
                "%s: %d streams of %.0f s fit into %d bytes, not %d; more are refused",
                model, fitting, stream_s, self.bytes, wanted,
            )  # fmt: skip
        return min(wanted, fitting)


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes of main memory that programs may still take; None where the system does not say."""
    if not meminfo.exists():
        return None
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
