"""One step of many streams as a single function of buffers at fixed addresses, which a CUDA graph can hold.

Text that is read, prompts and latents that are fed are all columns of one pack; attention finds each column's row by
its index, so streams in any slots and out of step share a step without gathering anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sled_tts.model.generator import GeneratorBlock
from sled_tts.model.kernels.choose import Kernels
from sled_tts.model.layers import DecoderLayer, rotary_table
from sled_tts.model.sled import Sled
from sled_tts.server.engine.columns import COLUMN_FIELDS, STREAM_FIELDS
from sled_tts.server.engine.state import EngineState

_MODULATED_EPS = 1e-6


@dataclass(frozen=True)
class StepInputs:
    """`columns [6, N]`, `streams [5, S]` int64, as `columns.Pack` lays them out; keys beyond `depth` are not live."""

    columns: Tensor
    streams: Tensor
    depth: int

    @classmethod
    def view(cls, flat: Tensor, columns: int, streams: int, depth: int) -> StepInputs:
        split = COLUMN_FIELDS * columns
        return cls(
            flat[:split].view(COLUMN_FIELDS, columns),
            flat[split : split + STREAM_FIELDS * streams].view(STREAM_FIELDS, streams),
            depth,
        )


class PackedNetwork:
    """A SLED prepared for inference, its state, and the kernels it runs on. Rotary tables are fp32 in any precision.

    `watched_layer`: whose inputs a step returns as well, for `model.following`.
    """

    def __init__(self, sled: Sled, state: EngineState, kernels: Kernels, watched_layer: int = 0) -> None:
        self.sled, self.state, self.kernels, self.watched_layer = sled, state, kernels, watched_layer
        config, device = sled.config, sled.cos.device
        cos, sin = rotary_table(state.cache.capacity, config.head_dim, config.rope_theta)
        self.cos, self.sin = cos.to(device), sin.to(device)
        # A single column would take a matrix-vector product; eight do not.
        self.stop_weight = F.pad(sled.eos_head.weight.detach(), (0, 0, 0, 7))

    def read(self, inputs: StepInputs) -> tuple[Tensor, Tensor]:
        """Append every column to its cache row; hidden states and what the watched layer read, `[N, H]` each."""
        sled, kernels, cache = self.sled, self.kernels, self.state.cache
        ids, is_text, slot, frame, row, position = inputs.columns.unbind(0)
        fed = sled.z_proj(self.state.latents[slot, frame].to(self.dtype))
        x = sled.z_proj_ln(torch.where(is_text[:, None] > 0, sled.model.embed_tokens(ids), fed))
        lengths = position + 1
        seen, delta = x, None
        for index, layer in enumerate(sled.layers):
            assert isinstance(layer, DecoderLayer)
            attention, mlp = layer.self_attn, layer.mlp
            assert mlp.fused is not None
            scales = cache.scales[index] if cache.scales else None
            keys, values = cache.keys[index][:, :, : inputs.depth], cache.values[index][:, :, : inputs.depth]
            x, normed = kernels.add_norm(x, delta, layer.input_layernorm.weight, layer.input_layernorm.eps)
            if index == self.watched_layer:
                seen = x
            joint = attention.joint(normed).flatten(1, 2)
            q = kernels.append(joint, self.cos, self.sin, row, position, keys, values, scales)
            delta = attention.o_proj(kernels.attend(q, keys, values, row, lengths, scales).flatten(1))
            norm = layer.post_attention_layernorm
            x, normed = kernels.add_norm(x, delta, norm.weight, norm.eps)
            delta = mlp.down_proj(kernels.swiglu(mlp.fused(normed)))
        _, hidden = kernels.add_norm(x, delta, sled.model.norm.weight, sled.model.norm.eps)
        return hidden, seen

    def step(self, inputs: StepInputs) -> tuple[Tensor, Tensor]:
        """Append every column, sample one latent for each stream and write it to its slot.

        Returns codes `[S]` int32 (1 for a stop, plus 2 when the latent is not finite) and what the watched layer read.
        """
        state = self.state
        hidden, seen = self.read(inputs)
        told_at, free_at, slot, frame, used = inputs.streams.unbind(0)
        told, free = hidden[told_at], hidden[free_at]
        z = torch.addcmul(free, state.scale[slot, None].to(self.dtype), told - free)
        made = self._generate(z, slot, used)
        state.latents[slot, frame] = made
        stopped = F.linear(told, self.stop_weight)[:, 0].float() >= state.stop_at[slot]
        return stopped.int() + 2 * (~torch.isfinite(made).all(dim=-1)).int(), seen

    def _generate(self, z: Tensor, slot: Tensor, used: Tensor) -> Tensor:
        """Latents `[S, D]` fp32 for conditions `z [S, H]`, with the modulation made ahead of time."""
        generator, state, modulate = self.sled.generator, self.state, self.kernels.modulate
        x = generator.cond_embed(z)
        added: tuple[Tensor, Tensor] | None = None
        for block, table in zip(generator.res_blocks, state.blocks, strict=True):
            assert isinstance(block, GeneratorBlock)
            x, normed = modulate(x, added, table, slot, used, _MODULATED_EPS)
            added = (block.mlp(normed), table)
        _, normed = modulate(x, added, state.final, slot, used, _MODULATED_EPS)
        made: Tensor = generator.final_layer.linear(normed)
        return made.float()

    @property
    def dtype(self) -> torch.dtype:
        return self.sled.z_proj.weight.dtype
