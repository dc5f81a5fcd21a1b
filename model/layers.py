"""LLaMA building blocks: RMSNorm, rotary positions, attention (cached and full), SwiGLU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sled_tts.model.config import SledConfig
from sled_tts.model.native.library import Native
from sled_tts.model.quantization import Kernel, Precision, Projection, pack


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x.float(), (x.shape[-1],), None, self.eps).to(x.dtype)
        return normed * self.weight.to(x.dtype)


def rotary_table(positions: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin, each `[positions, head_dim]`, in the rotate-half layout."""
    inverse = 1.0 / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.arange(positions).float()[:, None] * inverse
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to the last axis of `x`."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


@dataclass(frozen=True)
class RaggedPlan:
    """How a packed batch of N tokens from R rows meets the cache; built once a step, used by every layer.

    `row_of [N]`, `position [N]` say where each token goes; `query_row [N]`, `query_col [N]` place it in the
    padded query block `[R, L]`; `mask [R, 1, L, K]` is True where a query may look. `rows [R]` are the cache rows
    attended to; `contiguous` means they are the first R of the cache, idle ones included.
    """

    rows: Tensor
    contiguous: bool
    row_of: Tensor
    position: Tensor
    query_row: Tensor
    query_col: Tensor
    columns: int
    mask: Tensor
    cos: Tensor
    sin: Tensor


class Attention(nn.Module):
    def __init__(self, config: SledConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.dropout = config.attention_dropout
        self.q_proj = Projection(size, size, bias=False)
        self.k_proj = Projection(size, size, bias=False)
        self.v_proj = Projection(size, size, bias=False)
        self.o_proj = Projection(size, size, bias=False)
        self.fused: Kernel | None = None

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three tensors `[..., heads, head_dim]`."""
        q, k, v = self.joint(x).unbind(-3)
        return q, k, v

    def joint(self, x: Tensor) -> Tensor:
        """Queries, keys and values, `[..., 3, heads, head_dim]`."""
        if self.fused is not None:
            made = self.fused(x)
        else:
            made = torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)
        return made.view(*x.shape[:-1], 3, self.heads, self.head_dim)

    def full(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """No cache: `x [B, L, H]`; `mask [B, 1, L, L]`, or None for plain causal attention."""
        q, k, v = (t.transpose(1, 2) for t in self._qkv(x))
        out = F.scaled_dot_product_attention(
            rotate(q, cos, sin).to(v.dtype),
            rotate(k, cos, sin).to(v.dtype),
            v,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        result: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return result

    def cached(self, x: Tensor, keys: Tensor, values: Tensor, plan: RaggedPlan) -> Tensor:
        """Append packed tokens `x [N, H]` to their rows of the cache and attend to what each row holds."""
        q, k, v = self._qkv(x)
        cos, sin = plan.cos[:, None], plan.sin[:, None]
        keys[plan.row_of, :, plan.position] = rotate(k, cos, sin)
        values[plan.row_of, :, plan.position] = v
        live = plan.mask.shape[-1]
        if plan.contiguous:
            held_k, held_v = keys[: len(plan.rows), :, :live], values[: len(plan.rows), :, :live]
        else:
            held_k, held_v = keys[plan.rows, :, :live], values[plan.rows, :, :live]
        block = q.new_zeros(len(plan.rows), plan.columns, self.heads, self.head_dim)
        block[plan.query_row, plan.query_col] = rotate(q, cos, sin)
        out = F.scaled_dot_product_attention(block.transpose(1, 2), held_k, held_v, attn_mask=plan.mask)
        packed = out.transpose(1, 2)[plan.query_row, plan.query_col].flatten(1)
        result: Tensor = self.o_proj(packed)
        return result


class SwiGLU(nn.Module):
    def __init__(self, config: SledConfig) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = Projection(size, inner, bias=False)
        self.up_proj = Projection(size, inner, bias=False)
        self.down_proj = Projection(inner, size, bias=False)
        self.activation_dropout = config.activation_dropout
        self.fused: Kernel | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.fused is not None:
            gate, up = self.fused(x).chunk(2, dim=-1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        inner = F.silu(gate) * up
        if self.training:
            inner = F.dropout(inner, self.activation_dropout)
        out: Tensor = self.down_proj(inner)
        return out


class DecoderLayer(nn.Module):
    """Pre-norm transformer layer; dropout on both block outputs while training."""

    def __init__(self, config: SledConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = SwiGLU(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.dropout = config.dropout

    def _feed_forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.mlp(self.post_attention_layernorm(x))
        return x + (F.dropout(made, self.dropout) if self.training else made)

    def full(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        attended = self.self_attn.full(self.input_layernorm(x), cos, sin, mask)
        return self._feed_forward(x + F.dropout(attended, self.dropout, self.training))

    def cached(self, x: Tensor, keys: Tensor, values: Tensor, plan: RaggedPlan) -> Tensor:
        return self._feed_forward(x + self.self_attn.cached(self.input_layernorm(x), keys, values, plan))

    @torch.no_grad()
    def pack(self, precision: Precision, native: Native | None = None) -> None:
        """Lay q, k, v and gate, up side by side, two matrix products fewer a layer, and pack every weight."""
        attention, mlp = self.self_attn, self.mlp
        qkv = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
        attention.fused = pack(torch.cat(qkv), None, precision, native)
        mlp.fused = pack(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]), None, precision, native)
        attention.o_proj.pack(precision, native)
        mlp.down_proj.pack(precision, native)
