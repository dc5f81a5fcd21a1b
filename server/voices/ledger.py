"""Every use of a cloned voice leaves a trace: a log line without the text, and a count."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from sled_tts.server.logs import get_logger

log = get_logger(__name__)

Source = Literal["stored", "recording"]


@dataclass
class CloneLedger:
    """`stored` voices, and `recording`s that came with a request."""

    _counts: Counter[str] = field(default_factory=Counter, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def used(self, source: Source, *, voice: str | None, request: str, model: str) -> None:
        """An utterance with a cloned voice has been given its slot."""
        with self._lock:
            self._counts[source] += 1
        log.info("cloned voice used", source=source, voice=voice, request=request, model=model)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return {"stored": self._counts["stored"], "recording": self._counts["recording"]}
