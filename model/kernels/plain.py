"""The kernels' functions in plain torch: where Triton is missing, and what the kernels are checked against.

Same signatures as `attention` and `fused`; see there for shapes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

E4M3_MAX = 448.0


def attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: Tensor,
    lengths: Tensor,
    scales: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Masked attention over whole rows, which are gathered first."""
    held_k, held_v = keys[rows], values[rows]
    if scales is not None:
        held_k = held_k.to(q.dtype) * scales[0][rows][..., None].to(q.dtype)
        held_v = held_v.to(q.dtype) * scales[1][rows][..., None].to(q.dtype)
    mask = torch.arange(keys.shape[2], device=q.device) < lengths[:, None]
    grouped = q.shape[1] != keys.shape[1]
    out = F.scaled_dot_product_attention(
        q[:, :, None], held_k, held_v, attn_mask=mask[:, None, None], enable_gqa=grouped
    )
    return out[:, :, 0]


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
    kv_heads = keys.shape[1]
    turned, v = joint[:, :-kv_heads].float(), joint[:, -kv_heads:]
    first, second = turned.chunk(2, dim=-1)
    at_cos, at_sin = cos[positions][:, None].float(), sin[positions][:, None].float()
    turned = turned * at_cos + torch.cat([-second, first], dim=-1) * at_sin
    q, k = turned[:, :-kv_heads], turned[:, -kv_heads:]
    for made, held, scale in zip((k, v.float()), (keys, values), scales or (None, None), strict=True):
        if scale is not None:
            step = made.abs().amax(dim=-1).clamp(min=1e-12) / E4M3_MAX
            scale[rows, :, positions] = step
            made = made / step[..., None]
        held[rows, :, positions] = made.to(held.dtype)
    return q.to(joint.dtype)


def add_norm(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    added = x.float() if delta is None else x.float() + delta.float()
    normed = F.rms_norm(added, (x.shape[-1],), weight.float(), eps)
    return (x if delta is None else added.to(x.dtype)), normed.to(x.dtype)


def swiglu(joint: Tensor) -> Tensor:
    gate, up = joint.chunk(2, dim=-1)
    return F.silu(gate) * up


def modulate(
    x: Tensor,
    added: tuple[Tensor, Tensor] | None,
    table: Tensor,
    slots: Tensor,
    index: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    size = x.shape[-1]
    if added is not None:
        y, gates = added
        x = x + gates[slots, index, 2 * size : 3 * size] * y
    shift, scale = table[slots, index, :size], table[slots, index, size : 2 * size]
    return x, F.layer_norm(x, (size,), eps=eps) * (1 + scale) + shift
