"""Slot-addressed key/value cache, preallocated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sled_tts.model.config import SledConfig


@dataclass
class KVCache:
    """Keys and values per layer, `[rows, heads, capacity, head_dim]`, and how much of each row is live.

    A row is one sequence: a stream holds one, or two under classifier-free guidance. Where keys and values are held in
    8 bits, `scales` has their factors, a pair of `[rows, heads, capacity]` fp32 a layer; otherwise it is empty.
    """

    keys: list[Tensor]
    values: list[Tensor]
    lengths: list[int]
    scales: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add_scales(self) -> None:
        """Make room for scales, all 1."""
        self.scales = [
            (torch.ones(k.shape[:3], device=k.device), torch.ones(v.shape[:3], device=v.device))
            for k, v in zip(self.keys, self.values, strict=True)
        ]

    def _parts(self) -> list[list[Tensor]]:
        """All that is held, tensors with rows first and positions third, a list for each kind."""
        pairs = [list(pair) for pair in zip(*self.scales, strict=True)] if self.scales else []
        return [self.keys, self.values, *pairs]

    @classmethod
    def allocate(
        cls,
        config: SledConfig,
        rows: int,
        capacity: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> KVCache:
        shape = (rows, config.num_attention_heads, capacity, config.head_dim)
        return cls(
            keys=[torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)],
            values=[torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)],
            lengths=[0] * rows,
        )

    @property
    def capacity(self) -> int:
        """Positions a row can hold."""
        return self.keys[0].shape[2]

    @property
    def bytes(self) -> int:
        """Memory held by keys and values."""
        return sum(t.numel() * t.element_size() for part in self._parts() for t in part)

    def reset(self, rows: Sequence[int]) -> None:
        """Forget these rows. Stale numbers stay in memory but are masked until overwritten."""
        for row in rows:
            self.lengths[row] = 0

    def snapshot(self, rows: Sequence[int]) -> CachedRows:
        """A copy of what neighbouring `rows` hold."""
        first, live = rows[0], max(self.lengths[row] for row in rows)
        span = slice(first, first + len(rows))
        parts = [[held[span, :, :live].clone() for held in part] for part in self._parts()]
        return CachedRows(parts, [self.lengths[row] for row in rows])

    def restore(self, rows: Sequence[int], held: CachedRows) -> None:
        """Let neighbouring `rows` hold what `snapshot` copied; what they held is forgotten."""
        first, live = rows[0], max(held.lengths)
        span = slice(first, first + len(rows))
        for ours, theirs in zip(self._parts(), held.parts, strict=True):
            for mine, part in zip(ours, theirs, strict=True):
                mine[span, :, :live] = part
        for row, length in zip(rows, held.lengths, strict=True):
            self.lengths[row] = length


@dataclass(frozen=True)
class CachedRows:
    """What some rows of a cache held: keys, values, and scales if there are any, each a tensor a layer."""

    parts: list[list[Tensor]]
    lengths: list[int]

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for part in self.parts for t in part)
