"""CUDA graphs of functions without arguments: captured once, replayed from then on, missing where that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

import torch

from sled_tts.server.engine.transfers import Lanes

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Captured(Generic[K, T]):
    """Graphs by key. What a function returns stays where it was captured, and holds until any of them is run again:
    they share their memory. All of a set run on the stream that they were captured on."""

    def __init__(self, name: str, lanes: Lanes, wanted: bool) -> None:
        self.name, self.lanes, self.wanted = name, lanes, wanted
        self._graphs: dict[K, tuple[torch.cuda.CUDAGraph, T]] = {}

    def __len__(self) -> int:
        return len(self._graphs)

    def has(self, key: K) -> bool:
        return key in self._graphs

    def run(self, key: K, work: Callable[[], T]) -> T:
        """Replay what was captured for `key`, or call `work`."""
        if key not in self._graphs:
            return work()
        graph, made = self._graphs[key]
        graph.replay()
        return made

    def capture(self, works: Iterable[tuple[K, Callable[[], T]]]) -> None:
        """Capture all, the largest best first: the memory of the others is then a part of its own. Where one fails, a
        log line says so, and all run without graphs. What the functions do is done three times."""
        if not self.wanted:
            return
        began = time.perf_counter()
        try:
            pool = torch.cuda.graph_pool_handle()
            for key, work in works:
                self._graphs[key] = self._captured(work, pool)
        except Exception as error:
            self._graphs.clear()
            self.wanted = False
            log.warning("%s: CUDA graphs could not be captured, work goes on without them: %s", self.name, error)
            self.lanes.begin()
            return
        log.info("%s: %d graphs captured in %.1f s", self.name, len(self), time.perf_counter() - began)

    def _captured(self, work: Callable[[], T], pool: Any) -> tuple[torch.cuda.CUDAGraph, T]:
        # Kernels are compiled and libraries make their workspaces on first use, which a capture must not see.
        for _ in range(2):
            work()
        torch.cuda.synchronize(self.lanes.device)
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(self.lanes.device)
        # Other threads may use the device meanwhile: another checkpoint's engine, or a voice being encoded.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            made = work()
        return graph, made
