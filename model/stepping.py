"""One ragged step of many cached rows whose numbers do not depend on who shares it.

`Sled.forward` pads attention to the widest and longest row of the batch, which changes the order of floating point
sums with the batch. Here each row attends on its own, over exactly its own positions, and the matrix products run
over all rows packed together. The compiled kernels (`model.native`) compute each row in an order of its own. Without
them torch's operators do the same step: a row of a packed product (`model.quantization`) is bit-identical for every row
count from two on; where weights cannot be packed, MKL's is for multiples of four: one to three rows take other kernels,
and with two threads so do the one to three that 5, 6, 7, 9, 10 or 11 rows leave to one of them. So packs are
padded to multiples of `ROW_MULTIPLE`; tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.following import TextWatch
from sled_tts.model.kv_cache import KVCache
from sled_tts.model.layers import Attention, rotate
from sled_tts.model.sled import Sled

ROW_MULTIPLE = 2 if torch._C._has_mkldnn else 4


@dataclass(frozen=True)
class PackedRow:
    """Columns `[start, start + count)` of the pack belong to cache row `row`, which already holds `past`."""

    row: int
    start: int
    count: int
    past: int


@dataclass(frozen=True)
class PackedPlan:
    """Who owns which of N packed `columns`; those beyond the last row's are padding."""

    rows: tuple[PackedRow, ...]
    columns: int
    padding_row: int

    @property
    def used(self) -> int:
        return self.rows[-1].start + self.rows[-1].count


def pack(cache: KVCache, rows: Sequence[int], counts: Sequence[int], padding_row: int) -> PackedPlan:
    """Plan `counts[i] >= 1` new columns for each cache row; `padding_row` absorbs the
    columns that fill up to a multiple of `ROW_MULTIPLE`."""
    placed, start = list[PackedRow](), 0
    for row, count in zip(rows, counts, strict=True):
        placed.append(PackedRow(row, start, count, cache.lengths[row]))
        start += count
    return PackedPlan(tuple(placed), start + -start % ROW_MULTIPLE, padding_row)


@dataclass(frozen=True)
class _Places:
    """Where packed columns go, for torch's operators: `row_of`, `position` are `[N]`; `cos`, `sin` `[N, 1, head_dim]`;
    `masks[i]` is `[count, past + count]`, None for a single column, which sees everything."""

    masks: tuple[Tensor | None, ...]
    row_of: Tensor
    position: Tensor
    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, sled: Sled, plan: PackedPlan) -> _Places:
        device = sled.cos.device
        masks, row_of, position = list[Tensor | None](), list[int](), list[int]()
        for row in plan.rows:
            row_of += [row.row] * row.count
            position += range(row.past, row.past + row.count)
            if row.count == 1:
                masks.append(None)
            else:
                mask = torch.ones(row.count, row.past + row.count, dtype=torch.bool, device=device)
                masks.append(mask.tril(row.past))
        padding = plan.columns - plan.used
        index = torch.tensor([row_of + [plan.padding_row] * padding, position + list(range(padding))], device=device)
        cos, sin = sled.cos[index[1]][:, None], sled.sin[index[1]][:, None]
        return cls(tuple(masks), index[0], index[1], cos, sin)


def pad_rows(x: Tensor) -> Tensor:
    """`x [R, ...]` with zero rows appended up to a multiple of `ROW_MULTIPLE`."""
    missing = -x.shape[0] % ROW_MULTIPLE
    return x if missing == 0 else torch.cat([x, x.new_zeros(missing, *x.shape[1:])])


def _attend(attention: Attention, x: Tensor, keys: Tensor, values: Tensor, plan: PackedPlan, places: _Places) -> Tensor:
    joint = attention.joint(x)
    turned = rotate(joint[:, :2], places.cos[:, None], places.sin[:, None])
    keys[places.row_of, :, places.position] = turned[:, 1]
    values[places.row_of, :, places.position] = joint[:, 2]
    queries = turned[:, :1].transpose(1, 2)
    parts = []
    for row, mask in zip(plan.rows, places.masks, strict=True):
        live = row.past + row.count
        held_k, held_v = keys.narrow(0, row.row, 1).narrow(2, 0, live), values.narrow(0, row.row, 1).narrow(2, 0, live)
        asked = queries.narrow(0, row.start, row.count)
        if mask is not None:
            asked = asked.permute(2, 1, 0, 3)
        attended = F.scaled_dot_product_attention(asked, held_k, held_v, attn_mask=mask)
        parts.append(attended.transpose(1, 2).reshape(row.count, -1))
    if plan.columns > plan.used:
        parts.append(x.new_zeros(plan.columns - plan.used, parts[0].shape[1]))
    result: Tensor = attention.o_proj(torch.cat(parts))
    return result


def _by_operators(sled: Sled, embeds: Tensor, cache: KVCache, plan: PackedPlan, watch: TextWatch | None) -> Tensor:
    x, places = embeds, _Places.of(sled, plan)
    for index, (layer, keys, values) in enumerate(zip(sled.layers, cache.keys, cache.values, strict=True)):
        attended = _attend(layer.self_attn, layer.input_layernorm(x), keys, values, plan, places)
        if watch is not None and watch.layer == index:
            watch.see(layer, x, keys, sled.cos, sled.sin)
        x = layer._feed_forward(x + attended)
    out: Tensor = sled.model.norm(x)
    return out


def _check(sled: Sled, embeds: Tensor, cache: KVCache, plan: PackedPlan) -> None:
    """Compiled code looks at nothing twice."""
    limit = min(cache.capacity, sled.config.max_position_embeddings)
    for row in plan.rows:
        if row.past + row.count > limit:
            raise ModelError(f"row {row.row} would hold {row.past + row.count} positions, the limit is {limit}")
    if embeds.shape != (plan.columns, sled.config.hidden_size):
        raise ModelError(f"a step of {plan.columns} columns got inputs of shape {tuple(embeds.shape)}")


def forward_packed(
    sled: Sled, embeds: Tensor, cache: KVCache, plan: PackedPlan, watch: TextWatch | None = None
) -> Tensor:
    """Packed inputs `[N, H]` (padding included) to hidden states `[N, H]`; every row's columns are appended.

    Raises ModelError when a row would pass the cache's capacity or the model's position limit.
    """
    _check(sled, embeds, cache, plan)
    if sled.compiled is not None:
        out, read = sled.compiled.hidden(embeds, cache, plan.rows, None if watch is None else watch.layer)
        if watch is not None and read is not None:
            watch.see(sled.layers[watch.layer], read, cache.keys[watch.layer], sled.cos, sled.sin)
    else:
        out = _by_operators(sled, embeds, cache, plan, watch)
    for row in plan.rows:
        cache.lengths[row.row] += row.count
    return out
