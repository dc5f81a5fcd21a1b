"""Slot-addressed key/value cache, preallocated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sled_tts.model.config import SledConfig


@dataclass
class KVCache:
    """Keys and values per layer, `[rows, heads, capacity, head_dim]`, and how much of each row is live.

    A row is one sequence: a stream holds one, or two under classifier-free guidance.
    """

    keys: list[Tensor]
    values: list[Tensor]
    lengths: list[int]

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
        return sum(t.numel() * t.element_size() for t in [*self.keys, *self.values])

    def reset(self, rows: Sequence[int]) -> None:
        """Forget these rows. Stale numbers stay in memory but are masked until overwritten."""
        for row in rows:
            self.lengths[row] = 0

    def snapshot(self, rows: Sequence[int]) -> CachedRows:
        """A copy of what neighbouring `rows` hold."""
        first, live = rows[0], max(self.lengths[row] for row in rows)
        span = slice(first, first + len(rows))
        return CachedRows(
            keys=[k[span, :, :live].clone() for k in self.keys],
            values=[v[span, :, :live].clone() for v in self.values],
            lengths=[self.lengths[row] for row in rows],
        )

    def restore(self, rows: Sequence[int], held: CachedRows) -> None:
        """Let neighbouring `rows` hold what `snapshot` copied; what they held is forgotten."""
        first, live = rows[0], max(held.lengths)
        span = slice(first, first + len(rows))
        for layer, (keys, values) in enumerate(zip(held.keys, held.values, strict=True)):
            self.keys[layer][span, :, :live] = keys
            self.values[layer][span, :, :live] = values
        for row, length in zip(rows, held.lengths, strict=True):
            self.lengths[row] = length


@dataclass(frozen=True)
class CachedRows:
    """What some rows of a cache held: per layer `[rows, heads, longest, head_dim]`."""

    keys: list[Tensor]
    values: list[Tensor]
    lengths: list[int]

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in [*self.keys, *self.values])
