"""Decode attention that reads live positions only: one query for each column of a ragged pack.

A column knows its cache row and how many positions it may look at; lengths differ freely. Keys and values are read in
place, whatever the row, so nothing is gathered, and nothing beyond a column's length is touched. The positions of a
column are shared out evenly over `splits` programs (flash decoding, Dao et al. 2023), because two columns of sixteen
heads alone would leave most of a GPU idle; a second kernel joins the parts.

Several query heads may share a key head (grouped-query attention): they are then multiplied on tensor cores. Keys and
values may be held in 8 bits with one scale for each head of each position.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 64
_MAX_SPLITS = 32
# Programs that keep a large GPU busy: 132 multiprocessors of an H100 times 8 resident programs.
_BUSY = 1056


@triton.jit
def _attend_part(
    q_at, k_at, v_at, k_scale_at, v_scale_at, row_at, length_at, part_at, peak_at, total_at,
    factor, k_row, k_head, s_row, s_head,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, GROUP_PAD: tl.constexpr, DIM: tl.constexpr, DIM_PAD: tl.constexpr,
    BLOCK: tl.constexpr, SPLITS: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    column, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = tl.load(row_at + column).to(tl.int64)
    length = tl.load(length_at + column).to(tl.int32)
    span = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK) * BLOCK
    begin = split * span
    end = tl.minimum(begin + span, length)

    member = tl.arange(0, GROUP_PAD)
    d = tl.arange(0, DIM_PAD)
    query = column * KV_HEADS * GROUP + head * GROUP + member
    q_mask = (member < GROUP)[:, None] & (d < DIM)[None, :]
    q = tl.load(q_at + query[:, None] * DIM + d[None, :], mask=q_mask, other=0.0)
    k_base = k_at + row * k_row + head * k_head
    v_base = v_at + row * k_row + head * k_head
    s_base = row * s_row + head * s_head

    peak = tl.full([GROUP_PAD], float("-inf"), tl.float32)
    total = tl.zeros([GROUP_PAD], tl.float32)
    found = tl.zeros([GROUP_PAD, DIM_PAD], tl.float32)
    for start in range(begin, end, BLOCK):
        position = start + tl.arange(0, BLOCK)
        live = position < end
        held = live[:, None] & (d < DIM)[None, :]
        place = position[:, None] * DIM + d[None, :]
        k = tl.load(k_base + place, mask=held, other=0.0).to(tl.float32)
        v = tl.load(v_base + place, mask=held, other=0.0).to(tl.float32)
        if GROUP_PAD == 1:
            score = tl.sum(q.to(tl.float32)[:, None, :] * k[None, :, :], 2) * factor
        else:
            score = tl.dot(q.to(tl.float32), tl.trans(k), input_precision="ieee") * factor
        if SCALED:
            score = score * tl.load(k_scale_at + s_base + position, mask=live, other=0.0)[None, :]
        score = tl.where(live[None, :], score, float("-inf"))
        higher = tl.maximum(peak, tl.max(score, 1))
        weight = tl.exp2(score - higher[:, None])
        fade = tl.exp2(peak - higher)
        total = total * fade + tl.sum(weight, 1)
        if SCALED:
            weight = weight * tl.load(v_scale_at + s_base + position, mask=live, other=0.0)[None, :]
        if GROUP_PAD == 1:
            found = found * fade[:, None] + tl.sum(weight[:, :, None] * v[None, :, :], 1)
        else:
            found = found * fade[:, None] + tl.dot(weight, v, input_precision="ieee")
        peak = higher
    if SPLITS == 1:
        tl.store(part_at + query[:, None] * DIM + d[None, :], found / total[:, None], mask=q_mask)
    else:
        slot = query * SPLITS + split
        tl.store(part_at + slot[:, None] * DIM + d[None, :], found, mask=q_mask)
        tl.store(peak_at + slot, peak, mask=member < GROUP)
        tl.store(total_at + slot, total, mask=member < GROUP)


@triton.jit
def _attend_join(part_at, peak_at, total_at, out_at, DIM: tl.constexpr, DIM_PAD: tl.constexpr, SPLITS: tl.constexpr):
    query = tl.program_id(0)
    split, d = tl.arange(0, SPLITS), tl.arange(0, DIM_PAD)
    place = query * SPLITS + split
    peak, total = tl.load(peak_at + place), tl.load(total_at + place)
    # A split without positions has peak -inf, hence weight 0.
    weight = tl.exp2(peak - tl.max(peak, 0))
    part = tl.load(part_at + place[:, None] * DIM + d[None, :], mask=(d < DIM)[None, :], other=0.0)
    out = tl.sum(weight[:, None] * part, 0) / tl.sum(weight * total, 0)
    tl.store(out_at + query * DIM + d, out, mask=d < DIM)


def splits_for(columns: int, kv_heads: int, capacity: int) -> int:
    """How many programs share a column: enough to fill a GPU, none with less than a block of a full row."""
    wanted = math.ceil(_BUSY / (columns * kv_heads))
    useful = max(1, capacity // _BLOCK)
    return min(_MAX_SPLITS, 1 << (wanted - 1).bit_length(), 1 << (useful.bit_length() - 1))


def attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: Tensor,
    lengths: Tensor,
    scales: tuple[Tensor, Tensor] | None = None,
    splits: int | None = None,
) -> Tensor:
    """Attention of queries `q [N, heads, D]` over the first `lengths[i] >= 1` positions of cache row `rows[i]`.

    `keys`, `values` are `[R, kv_heads, P, D]` with contiguous positions; `heads` is a multiple of `kv_heads`.
    `scales`, each `[R, kv_heads, P]` fp32, multiply 8-bit keys and values. `splits` (a power of two) is chosen by the
    shape unless given. Returns `[N, heads, D]` in q's dtype.
    """
    columns, heads, dim = q.shape
    kv_heads, capacity = keys.shape[1], keys.shape[2]
    group = heads // kv_heads
    splits = splits or splits_for(columns, kv_heads, capacity)
    out = torch.empty_like(q)
    if splits == 1:
        part = peak = total = out
    else:
        part = torch.empty(columns * heads * splits, dim, device=q.device, dtype=torch.float32)
        peak, total = torch.empty(2, columns * heads * splits, device=q.device, dtype=torch.float32).unbind(0)
    k_scale, v_scale = scales or (keys, values)
    s_row, s_head = (k_scale.stride(0), k_scale.stride(1)) if scales else (0, 0)
    dim_pad = max(16, triton.next_power_of_2(dim))
    _attend_part[(columns, kv_heads, splits)](
        q, keys, values, k_scale, v_scale, rows, lengths, part, peak, total,
        math.log2(math.e) / math.sqrt(dim), keys.stride(0), keys.stride(1), s_row, s_head,
        KV_HEADS=kv_heads, GROUP=group, GROUP_PAD=1 if group == 1 else max(16, triton.next_power_of_2(group)),
        DIM=dim, DIM_PAD=dim_pad, BLOCK=_BLOCK, SPLITS=splits, SCALED=scales is not None, num_warps=4,
    )  # fmt: skip
    if splits > 1:
        _attend_join[(columns * heads,)](
            part, peak, total, out, DIM=dim, DIM_PAD=dim_pad, SPLITS=splits, num_warps=1
        )  # fmt: skip
    return out
