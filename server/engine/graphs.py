"""Steps of a few fixed sizes, captured as CUDA graphs before any request is admitted, and replayed.

A size counts columns; streams take half as many, since a guided stream that only writes has two columns. Everything
that changes from step to step is in one flat buffer, which one asynchronous copy fills. A step larger than the largest
size, and every step where graphs are missing, runs the same function operator by operator.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sled_tts.server.engine.columns import COLUMN_FIELDS, STREAM_FIELDS, Pack
from sled_tts.server.engine.packed import PackedNetwork, StepInputs
from sled_tts.server.engine.transfers import Lanes, Upload

log = logging.getLogger(__name__)

_SHALLOWEST = 256
# Reading without sampling goes in parts, which bounds what plain torch's attention gathers.
_READ_COLUMNS = 64


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
    """Runs packs through a `PackedNetwork`, by graphs where they could be captured."""

    def __init__(self, network: PackedNetwork, sizes: Sizes, lanes: Lanes, turns: int, graphed: bool) -> None:
        self.network, self.sizes, self.lanes, self.graphed = network, sizes, lanes, graphed
        state = network.state
        self._padding = (state.padding_row, len(state.used) - 1)
        # Any one row fits, a prompt of every position in both of its cache rows included.
        self.most = max(sizes.columns[-1], 2 * state.cache.capacity + 2)
        length = COLUMN_FIELDS * self.most + STREAM_FIELDS * (self.most // 2)
        self._upload = Upload((length,), torch.long, lanes, turns)
        self._captured: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor]]] = {}
        self._pool: tuple[int, int] | None = None

    def step(self, pack: Pack) -> tuple[Tensor, Tensor]:
        """As `PackedNetwork.step`, valid until the next one; the pack's streams and columns come first."""
        size = self.sizes.fit(pack)
        inputs = self._send(pack, size)
        if size not in self._captured:
            return self.network.step(inputs)
        graph, made = self._captured[size]
        graph.replay()
        return made

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

    @property
    def captured(self) -> int:
        return len(self._captured)

    def capture(self) -> None:
        """Capture every size; what a capture computes lands in the padding row and slot. Where that fails, a log line
        says so and steps run operator by operator."""
        if not self.graphed:
            return
        began = time.perf_counter()
        try:
            self._pool = torch.cuda.graph_pool_handle()
            for size in self.sizes.all():
                self._capture(size)
        except Exception as error:
            log.warning("CUDA graphs could not be captured, steps run without them: %s", error)
            self._captured.clear()
            self.graphed = False
            torch.cuda.synchronize(self.lanes.device)
            return
        log.info("%d graphs captured in %.1f s", self.captured, time.perf_counter() - began)

    def _capture(self, size: tuple[int, int]) -> None:
        inputs = self._send(Pack(), size)
        # Kernels are compiled and libraries make their workspaces on first use, which a capture must not see.
        for _ in range(2):
            self.network.step(inputs)
        torch.cuda.synchronize(self.lanes.device)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: another checkpoint's engine, or a voice being encoded.
        with torch.cuda.graph(
            graph,
            pool=self._pool,
            stream=torch.cuda.current_stream(self.lanes.device),
            capture_error_mode="thread_local",
        ):
            made = self.network.step(inputs)
        self._captured[size] = (graph, made)
