"""Prompt blocks computed once: what a voice's prompt leaves in the caches, ready to be copied into a slot."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from sled_tts.model.codec.streaming import SlotState
from sled_tts.model.kv_cache import CachedRows


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the conditional and guidance row after a prompt, and the decoder's memory after it."""

    rows: CachedRows = field(repr=False)
    decoder: SlotState = field(repr=False)

    @property
    def bytes(self) -> int:
        return self.rows.bytes + sum(t.numel() * t.element_size() for layer in self.decoder for t in layer)


@dataclass
class PrefixCache:
    """The prefixes used last, within `limit_bytes` (the newest is always kept). Engine thread only."""

    limit_bytes: int = 256 * 2**20
    _held: OrderedDict[str, Prefix] = field(default_factory=OrderedDict, init=False, repr=False)

    @property
    def bytes(self) -> int:
        return sum(prefix.bytes for prefix in self._held.values())

    def get(self, key: str) -> Prefix | None:
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)

    def put(self, key: str, prefix: Prefix) -> None:
        self._held[key] = prefix
        self._held.move_to_end(key)
        while len(self._held) > 1 and self.bytes > self.limit_bytes:
            self._held.popitem(last=False)
