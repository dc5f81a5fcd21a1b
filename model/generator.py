"""The per-token generator g: noise and a conditioning vector to one latent in a single pass.

All modulation depends on the noise alone, so it can be computed ahead of time, exactly
(`modulation`), and only the conditioned half (`from_modulation`) runs inside a step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sled_tts.model.config import SledConfig
from sled_tts.model.native.library import Native
from sled_tts.model.quantization import Kernel, Precision, Projection

_EPS = 1e-6


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_EPS) * (1 + scale) + shift


@dataclass
class Modulation:
    """Everything the noise decides: per block (shift, scale, gate) `[..., 3W]`, final (shift, scale) `[..., 2W]`."""

    blocks: list[Tensor]
    final: Tensor


class GeneratorBlock(nn.Module):
    """Residual MLP whose AdaLN shift, scale and gate come from the noise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Projection(width, width), nn.SiLU(), Projection(width, width))
        self.noise_ln = nn.LayerNorm(width, eps=_EPS)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Projection(width, 3 * width))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale, gate = modulation.chunk(3, dim=-1)
        out: Tensor = x + gate * self.mlp(_modulate(x, shift, scale))
        return out


class FinalLayer(nn.Module):
    """Modulated LayerNorm and projection to the latent width."""

    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__()
        self.linear = Projection(width, latent_dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Projection(width, 2 * width))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation.chunk(2, dim=-1)
        out: Tensor = self.linear(_modulate(x, shift, scale))
        return out


class Generator(nn.Module):
    """`z [..., H], noise [..., C] -> latent [..., D]` (arXiv 2505.13181, section 3.2)."""

    def __init__(self, config: SledConfig) -> None:
        super().__init__()
        width = config.generator.width
        self.cond_embed = Projection(config.hidden_size, width)
        self.input_proj = Projection(config.generator.noise_channels, width)
        self.res_blocks = nn.ModuleList([GeneratorBlock(width) for _ in range(config.generator.depth)])
        self.final_layer = FinalLayer(width, config.latent_dim)

    @property
    def _blocks(self) -> list[GeneratorBlock]:
        return list(cast("Iterable[GeneratorBlock]", self.res_blocks))

    def modulation(self, noise: Tensor) -> Modulation:
        """What `noise [..., C]` decides, for any number of future steps at once."""
        y = self.input_proj(noise)
        blocks = [block.adaLN_modulation(block.noise_ln(y)) for block in self._blocks]
        return Modulation(blocks, self.final_layer.adaLN_modulation(y))

    def from_modulation(self, z: Tensor, modulation: Modulation) -> Tensor:
        """Latents for conditioning vectors `z [..., H]`."""
        x = self.cond_embed(z)
        for block, part in zip(self._blocks, modulation.blocks, strict=True):
            x = block(x, part)
        out: Tensor = self.final_layer(x, modulation.final)
        return out

    def forward(self, z: Tensor, noise: Tensor) -> Tensor:
        return self.from_modulation(z, self.modulation(noise))

    def step_products(self) -> list[Kernel | None]:
        """The packed products of `from_modulation`: condition, latent, then two for each block."""
        inside = [layer for block in self._blocks for layer in (block.mlp[0], block.mlp[2])]
        found = [self.cond_embed, self.final_layer.linear, *inside]
        return [layer.kernel for layer in found if isinstance(layer, Projection)]

    def pack(self, precision: Precision, native: Native | None = None) -> None:
        """Pack every weight; input and output are small and in the units of noise and latents: they stay in fp32."""
        exact = (self.input_proj, self.final_layer.linear)
        for module in self.modules():
            if isinstance(module, Projection):
                module.pack(Precision.FP32 if module in exact else precision, native)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Xavier everywhere, zero for the modulation and the output (specs of the reference training)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        modulations = [block.adaLN_modulation for block in self._blocks]
        for module in [*modulations, self.final_layer.adaLN_modulation, self.final_layer.linear]:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
