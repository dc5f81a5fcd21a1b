"""Steps of a few fixed sizes, captured as CUDA graphs before any request is admitted, and replayed.

A size counts columns; streams take half as many, since a guided stream that only writes has two columns. Everything
that changes from step to step is in one flat buffer, which one asynchronous copy fills. A step larger than the largest
size, and every step where graphs are missing, runs the same function operator by operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sled_tts.server.engine.captured import Captured
from sled_tts.server.engine.columns import COLUMN_FIELDS, STREAM_FIELDS, Pack
from sled_tts.server.engine.packed import PackedNetwork, StepInputs
from sled_tts.server.engine.transfers import Lanes, Upload

_SHALLOWEST = 256
# Reading without sampling goes in parts, which bounds what plain torch's attention gathers.
_READ_COLUMNS = 64
# A step's, and those of prompts that are read between two steps.
_PENDING_PACKS = 16


@dataclass(frozen=True)
class Sizes:
    """Columns: 2, 4, 8, 16, then twice and one and a half times powers of two, until `slots` guided streams and some
    text fit. Depths: one where attention reads live positions only, else powers of two from 256 on."""

    slots: int
    positions: int
    live_only: bool

    @cached_property
    def columns(self) -> tuple[int, ...]:
        most = 2 * self.slots + max(8, self.slots // 4)
        made = [2]
        while made[-1] < most:
            last = made[-1]
            is_power = last & (last - 1) == 0
            made.append(2 * last if last < 16 else last + last // 2 if is_power else last // 3 * 4)
        return tuple(made)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        if self.live_only:
            return (self.positions,)
        made = [min(_SHALLOWEST, self.positions)]
        while made[-1] < self.positions:
            made.append(min(2 * made[-1], self.positions))
        return tuple(made)

    def fit(self, pack: Pack) -> tuple[int, int]:
        """(columns, depth) of the smallest size that holds a pack; beyond the largest, columns are merely even."""
        needed = max(len(pack.columns), 2 * len(pack.streams))
        columns = next((c for c in self.columns if c >= needed), needed + needed % 2)
        return columns, next(d for d in self.depths if d >= pack.longest)

    def all(self) -> Iterator[tuple[int, int]]:
        """The largest first: the memory of a smaller graph is then a part of its predecessor's."""
        return ((c, d) for c in reversed(self.columns) for d in reversed(self.depths))


class StepGraphs:
    """Runs packs through a `PackedNetwork`, by graphs where they could be captured. Call it on the steps' lane."""

    def __init__(self, network: PackedNetwork, sizes: Sizes, lanes: Lanes, graphed: bool) -> None:
        self.network, self.sizes = network, sizes
        state = network.state
        self._padding = (state.padding_row, len(state.used) - 1)
        # Any one row fits, a prompt of every position in both of its cache rows included.
        self.most = max(sizes.columns[-1], 2 * state.cache.capacity + 2)
        length = COLUMN_FIELDS * self.most + STREAM_FIELDS * (self.most // 2)
        self._upload = Upload((length,), torch.long, lanes, _PENDING_PACKS)
        self.graphs: Captured[tuple[int, int], tuple[Tensor, Tensor]] = Captured("steps", lanes, graphed)

    def step(self, pack: Pack) -> tuple[Tensor, Tensor]:
        """As `PackedNetwork.step`, valid until the next one; the pack's streams and columns come first."""
        size = self.sizes.fit(pack)
        inputs = self._send(pack, size)
        return self.graphs.run(size, lambda: self.network.step(inputs))

    def read(self, pack: Pack) -> None:
        """Append a pack's columns without sampling anything."""
        for part in [pack] if self.sizes.live_only else pack.parts(_READ_COLUMNS):
            columns, depth = self.sizes.fit(part)
            self.network.read(self._send(part, (columns, depth)))

    def _send(self, pack: Pack, size: tuple[int, int]) -> StepInputs:
        columns, depth = size
        used = pack.write(self._upload.host(), columns, columns // 2, *self._padding)
        self._upload.send(used)
        return StepInputs.view(self._upload.target, columns, columns // 2, depth)

    def prepare(self) -> None:
        """Capture every size; what a capture computes lands in the padding row and slot. Then read packs of every
        larger size once, since kernels are compiled for how a column's positions are shared out."""
        self.graphs.capture((size, self._work(size)) for size in self.sizes.all())
        if not self.sizes.live_only:
            return
        columns = 2
        while columns <= self.most:
            self.network.read(self._send(Pack(), (columns, self.sizes.depths[-1])))
            columns *= 2

    def _work(self, size: tuple[int, int]) -> Callable[[], tuple[Tensor, Tensor]]:
        inputs = self._send(Pack(), size)
        return lambda: self.network.step(inputs)
