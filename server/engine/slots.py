"""Who holds which slot. The only engine state that two threads touch."""

from __future__ import annotations

import threading

from sled_tts.server.errors import OverCapacityError


class SlotPool:
    """A fixed number of slots; taking one never waits."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"slots must be >= 1, got {slots}")
        self.size = slots
        self._free = list(range(slots - 1, -1, -1))
        self._lock = threading.Lock()

    def acquire(self) -> int:
        """The lowest free slot. Raises OverCapacityError when there is none."""
        with self._lock:
            if not self._free:
                raise OverCapacityError(f"all {self.size} slots are in use", param=None)
            return self._free.pop()

    def release(self, slot: int) -> None:
        """Give a slot back. Raises ValueError when it is not taken."""
        with self._lock:
            if slot in self._free or not 0 <= slot < self.size:
                raise ValueError(f"slot {slot} is not in use")
            self._free.append(slot)
            self._free.sort(reverse=True)

    @property
    def in_use(self) -> int:
        return self.size - len(self._free)
