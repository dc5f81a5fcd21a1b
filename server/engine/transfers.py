"""Numbers that cross between host and device, and the only places where one waits for the other.

On CUDA everything that crosses goes through pinned memory, asynchronously, in the order of a stream; the host waits for
an event, and only when it is asked for a result. On a CPU the same calls copy at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
Array = NDArray[Any]


class Lanes:
    """Two orders of work on one device: steps, and the codec, which runs beside them and yields to them.

    On a CPU there is one order, that of the program.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._streams: dict[str, torch.cuda.Stream] = {}
        if device.type == "cuda":
            self._streams = {
                "steps": torch.cuda.Stream(device, priority=-1),  # type: ignore[no-untyped-call]
                "codec": torch.cuda.Stream(device, priority=0),  # type: ignore[no-untyped-call]
            }

    def begin(self) -> None:
        """Wait for all that has been queued: for weights and buffers, say, which are made on the default stream."""
        if self._streams:
            torch.cuda.synchronize(self.device)

    @contextmanager
    def _on(self, name: str) -> Iterator[None]:
        stream = self._streams.get(name)
        if stream is None:
            yield
            return
        with torch.cuda.device(self.device), torch.cuda.stream(stream):
            yield

    def steps(self, after: torch.cuda.Event | None = None) -> Any:
        """A context whose work is queued behind all steps, and behind an event of the codec's."""
        if after is not None:
            self._streams["steps"].wait_event(after)
        return self._on("steps")

    def codec(self) -> Any:
        """A context whose work is queued behind what the codec is doing now, and behind no step."""
        return self._on("codec")

    def mark(self) -> torch.cuda.Event | None:
        """An event behind all that has been queued in the present context."""
        if not self._streams:
            return None
        made = torch.cuda.Event()  # type: ignore[no-untyped-call]
        made.record(torch.cuda.current_stream(self.device))
        return made


class Upload:
    """A tensor on the device at a fixed address, and pinned buffers that take turns in filling it."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, lanes: Lanes, turns: int) -> None:
        on_gpu = lanes.device.type == "cuda"
        self._lanes, self._turn = lanes, 0
        self.target = torch.zeros(*shape, dtype=dtype, device=lanes.device)
        self._pinned = [torch.zeros(*shape, dtype=dtype, pin_memory=on_gpu) for _ in range(turns)]
        self._views: list[Array] = [held.numpy() for held in self._pinned]
        self._sent: list[torch.cuda.Event | None] = [None] * turns

    def host(self) -> Array:
        """The buffer to fill next. Waits for its own last copy, which `turns` fillings ago was long ended."""
        sent = self._sent[self._turn]
        if sent is not None:
            sent.synchronize()
        return self._views[self._turn]

    def send(self, count: int) -> Tensor:
        """Queue the copy of the first `count` entries of the buffer; returns them on the device."""
        part = self.target[:count]
        part.copy_(self._pinned[self._turn][:count], non_blocking=True)
        self._sent[self._turn] = self._lanes.mark()
        self._turn = (self._turn + 1) % len(self._pinned)
        return part


def send_once(array: Array, device: torch.device) -> Tensor:
    """A new tensor on the device; the pinned memory in between is the allocator's, which knows when it is free."""
    made = torch.from_numpy(np.ascontiguousarray(array))
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.clone()


@dataclass
class Landing(Generic[T]):
    """A result under way to the host. `wait` must be called at most once."""

    _held: Tensor
    _count: int
    _event: torch.cuda.Event | None
    _free: list[Tensor] = field(repr=False)
    _make: Callable[[Array], T] = field(repr=False)

    @property
    def done(self) -> bool:
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> T:
        if self._event is not None:
            self._event.synchronize()
        made = self._make(self._held[: self._count].numpy().copy())
        self._free.append(self._held)
        return made


class Download:
    """Pinned buffers for results of one kind: as many as were ever under way at once, two in the normal course."""

    def __init__(self, dtype: torch.dtype, size: int, lanes: Lanes) -> None:
        self._dtype, self._size, self._lanes = dtype, size, lanes
        self._free = [self._buffer(size) for _ in range(2)]

    def start(self, values: Tensor, make: Callable[[Array], T]) -> Landing[T]:
        """Queue the copy of `values [N]` behind what made them; `make` turns them into the result once here."""
        count = values.shape[0]
        while self._free and self._free[-1].shape[0] < count:
            self._free.pop()
        held = self._free.pop() if self._free else self._buffer(max(self._size, 1 << (count - 1).bit_length()))
        held[:count].copy_(values, non_blocking=True)
        return Landing(held, count, self._lanes.mark(), self._free, make)

    def _buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=self._dtype, pin_memory=self._lanes.device.type == "cuda")
