"""Random models of the published shape: speed does not depend on the values."""

from __future__ import annotations

import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.codec.networks import init_for_training
from sled_tts.model.config import GeneratorConfig, SledConfig
from sled_tts.model.sled import Sled


def published(n: int | None = 5, m: int | None = 45) -> SledConfig:
    """The released checkpoints (arXiv 2505.13181): 203.6 M parameters; `n`, `m` None for the offline one."""
    return SledConfig(
        hidden_size=1024,
        intermediate_size=2752,
        num_hidden_layers=12,
        num_attention_heads=16,
        vocab_size=16384,
        latent_dim=128,
        generator=GeneratorConfig(depth=6, width=1024, noise_channels=128),
        stream_n=n,
        stream_m=m,
    )


@torch.no_grad()
def random_sled(config: SledConfig, seed: int) -> Sled:
    """Weights that keep activations near 1, none of them zero, so that every path does its work."""
    model = Sled(config).eval().requires_grad_(False)
    rng = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            scale = 0.5 if "embed_tokens" in name else parameter.shape[1] ** -0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=rng))
        elif not name.endswith("weight"):
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=rng))
    return model


def random_codec(config: CodecConfig | None = None) -> Codec:
    """The published 24 kHz codec's shape unless another is given."""
    codec = Codec(config or CodecConfig()).eval().requires_grad_(False)
    init_for_training(codec.decoder)
    return codec
