"""Everything between the matrix products of a step, one kernel for each gap.

At a few rows a kernel's launch costs more than its work: written operator by operator a layer takes some 27 launches,
with these kernels ten. Rows are independent, arithmetic is fp32 inside and rounded once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _append(
    joint_at, cos_at, sin_at, row_at, position_at, q_at, k_at, v_at, k_scale_at, v_scale_at,
    k_row, k_head, s_row, s_head,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, DIM: tl.constexpr, HALF_PAD: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    column, lane = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, HALF_PAD)
    half: tl.constexpr = DIM // 2
    live = d < half
    source = joint_at + (column * (HEADS + 2 * KV_HEADS) + lane) * DIM
    low = tl.load(source + d, mask=live, other=0.0).to(tl.float32)
    high = tl.load(source + half + d, mask=live, other=0.0).to(tl.float32)
    row = tl.load(row_at + column).to(tl.int64)
    position = tl.load(position_at + column).to(tl.int64)
    if lane < HEADS + KV_HEADS:
        cos = tl.load(cos_at + position * DIM + d, mask=live, other=0.0).to(tl.float32)
        sin = tl.load(sin_at + position * DIM + d, mask=live, other=0.0).to(tl.float32)
        turned = low * cos - high * sin
        high = high * cos + low * sin
        low = turned
    if lane < HEADS:
        target = q_at + (column * HEADS + lane) * DIM
        tl.store(target + d, low, mask=live)
        tl.store(target + half + d, high, mask=live)
    else:
        is_key = lane < HEADS + KV_HEADS
        head = lane - tl.where(is_key, HEADS, HEADS + KV_HEADS)
        place = row * k_row + head * k_head + position * DIM + d
        if SCALED:
            top = tl.maximum(tl.max(tl.abs(low), 0), tl.max(tl.abs(high), 0))
            scale = tl.maximum(top, 1e-12) / 448.0
            low = low / scale
            high = high / scale
            mark = row * s_row + head * s_head + position
            if is_key:
                tl.store(k_scale_at + mark, scale)
            else:
                tl.store(v_scale_at + mark, scale)
        if is_key:
            tl.store(k_at + place, low.to(k_at.dtype.element_ty), mask=live)
            tl.store(k_at + place + half, high.to(k_at.dtype.element_ty), mask=live)
        else:
            tl.store(v_at + place, low.to(v_at.dtype.element_ty), mask=live)
            tl.store(v_at + place + half, high.to(v_at.dtype.element_ty), mask=live)


@triton.jit
def _add_norm(x_at, delta_at, weight_at, sum_at, out_at, eps, SIZE: tl.constexpr, PAD: tl.constexpr, ADD: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, PAD)
    live = i < SIZE
    x = tl.load(x_at + row * SIZE + i, mask=live, other=0.0).to(tl.float32)
    if ADD:
        x = x + tl.load(delta_at + row * SIZE + i, mask=live, other=0.0).to(tl.float32)
        tl.store(sum_at + row * SIZE + i, x, mask=live)
    weight = tl.load(weight_at + i, mask=live, other=0.0).to(tl.float32)
    normed = x * tl.rsqrt(tl.sum(x * x, 0) / SIZE + eps) * weight
    tl.store(out_at + row * SIZE + i, normed, mask=live)


@triton.jit
def _swiglu(joint_at, out_at, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = i < SIZE
    gate = tl.load(joint_at + row * 2 * SIZE + i, mask=live, other=0.0).to(tl.float32)
    up = tl.load(joint_at + row * 2 * SIZE + SIZE + i, mask=live, other=0.0).to(tl.float32)
    tl.store(out_at + row * SIZE + i, gate / (1.0 + tl.exp(-gate)) * up, mask=live)


@triton.jit
def _modulate(
    x_at, y_at, gate_at, table_at, slot_at, index_at, sum_at, out_at, eps, block,
    GATES: tl.constexpr, PARTS: tl.constexpr, SIZE: tl.constexpr, PAD: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    i = tl.arange(0, PAD)
    live = i < SIZE
    entry = tl.load(slot_at + row).to(tl.int64) * block + tl.load(index_at + row).to(tl.int64)
    x = tl.load(x_at + row * SIZE + i, mask=live, other=0.0).to(tl.float32)
    if ADD:
        gate = tl.load(gate_at + entry * GATES * SIZE + 2 * SIZE + i, mask=live, other=0.0).to(tl.float32)
        x = x + gate * tl.load(y_at + row * SIZE + i, mask=live, other=0.0).to(tl.float32)
        tl.store(sum_at + row * SIZE + i, x, mask=live)
    mean = tl.sum(x, 0) / SIZE
    away = tl.where(live, x - mean, 0.0)
    normed = away * tl.rsqrt(tl.sum(away * away, 0) / SIZE + eps)
    shift = tl.load(table_at + entry * PARTS * SIZE + i, mask=live, other=0.0).to(tl.float32)
    scale = tl.load(table_at + entry * PARTS * SIZE + SIZE + i, mask=live, other=0.0).to(tl.float32)
    tl.store(out_at + row * SIZE + i, normed * (1.0 + scale) + shift, mask=live)


def append(
    joint: Tensor,
    cos: Tensor,
    sin: Tensor,
    rows: Tensor,
    positions: Tensor,
    keys: Tensor,
    values: Tensor,
    scales: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Turn queries and keys by their positions, write keys and values to the cache, return queries `[N, heads, D]`.

    `joint [N, heads + 2 kv_heads, D]` holds queries, keys, values; `cos`, `sin` are `[P, D]`, both halves the same
    (`layers.rotary_table`); `rows [N]` and `positions [N]` say where in `keys`, `values` `[R, kv_heads, P, D]` each
    column goes. With `scales` (`[R, kv_heads, P]` each) the cache is e4m3 and every head of every position gets the
    scale that fills its range.
    """
    columns, lanes, dim = joint.shape
    kv_heads = keys.shape[1]
    heads = lanes - 2 * kv_heads
    q = torch.empty(columns, heads, dim, device=joint.device, dtype=joint.dtype)
    k_scale, v_scale = scales or (keys, values)
    s_row, s_head = (k_scale.stride(0), k_scale.stride(1)) if scales else (0, 0)
    _append[(columns, lanes)](
        joint, cos, sin, rows, positions, q, keys, values, k_scale, v_scale,
        keys.stride(0), keys.stride(1), s_row, s_head,
        HEADS=heads, KV_HEADS=kv_heads, DIM=dim, HALF_PAD=triton.next_power_of_2(dim // 2),
        SCALED=scales is not None, num_warps=1,
    )  # fmt: skip
    return q


def add_norm(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`x + delta` and its weighted root-mean-square norm, both `[N, H]`; without `delta`, x itself."""
    columns, size = x.shape
    out = torch.empty_like(x)
    added = x if delta is None else torch.empty_like(x)
    pad = triton.next_power_of_2(size)
    _add_norm[(columns,)](
        x, x if delta is None else delta, weight, added, out, eps,
        SIZE=size, PAD=pad, ADD=delta is not None, num_warps=_warps(pad),
    )  # fmt: skip
    return added, out


def swiglu(joint: Tensor) -> Tensor:
    """`silu(gate) * up` of `joint [N, 2 I]`, the gate first."""
    rows, size = joint.shape[0], joint.shape[1] // 2
    out = torch.empty(rows, size, device=joint.device, dtype=joint.dtype)
    block = min(1024, triton.next_power_of_2(size))
    _swiglu[(rows, triton.cdiv(size, block))](joint, out, SIZE=size, BLOCK=block, num_warps=_warps(block))
    return out


def modulate(
    x: Tensor,
    added: tuple[Tensor, Tensor] | None,
    table: Tensor,
    slots: Tensor,
    index: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """A layer norm modulated by what a slot's noise decided: `norm(x) * (1 + scale) + shift`, `[S, W]`.

    `table [slots, block, parts * W]` holds shift and scale; row r takes entry `[slots[r], index[r]]`. `added`: the
    block before this one, its output `y [S, W]` and its table, whose third part gates it: x becomes `x + gate * y`.
    Returns x and the result.
    """
    rows, size = x.shape
    out, total = torch.empty_like(x), x if added is None else torch.empty_like(x)
    y, gates = added or (x, table)
    pad = triton.next_power_of_2(size)
    _modulate[(rows,)](
        x, y, gates, table, slots, index, total, out, eps, table.shape[1],
        GATES=gates.shape[2] // size, PARTS=table.shape[2] // size, SIZE=size, PAD=pad, ADD=added is not None,
        num_warps=_warps(pad),
    )  # fmt: skip
    return total, out


def _warps(width: int) -> int:
    return max(1, min(8, width // 256))
