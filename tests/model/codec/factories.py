"""Small random codecs for tests, of shapes unlike the published one where that is where bugs hide."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig

SMALL = CodecConfig(
    sampling_rate=16_000, dimension=6, n_filters=4, ratios=(4, 3, 2), codebook_size=16, n_q=3, kernel_size=7
)
# Dilated blocks behind a ratio of two look further back than the first convolution.
DEEP = CodecConfig(
    sampling_rate=8_000, dimension=5, n_filters=4, ratios=(2, 3), n_residual_layers=4, codebook_size=8, n_q=2,
    kernel_size=5, last_kernel_size=9, residual_kernel_size=5, lstm=1,
)  # fmt: skip
NO_LSTM = CodecConfig(
    sampling_rate=22_050, dimension=3, n_filters=2, ratios=(7,), codebook_size=4, n_q=1, kernel_size=3, lstm=0
)
# A decoder that has grown (see `model/training/growth.py`).
GROWN = replace(SMALL, decoder_residual_layers=3)
SHAPES = {"small": SMALL, "grown": GROWN, "deep": DEEP, "no_lstm": NO_LSTM}


def random_codec(config: CodecConfig, seed: int = 0) -> Codec:
    """Random weights, biases included, at which signals neither die nor explode."""
    rng = torch.Generator().manual_seed(seed)
    codec = Codec(config).eval().requires_grad_(False)
    for parameter in codec.parameters():
        draw = torch.randn(parameter.shape, generator=rng)
        fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 25
        parameter.copy_(draw * fan_in**-0.5)
    codec.quantizer.codebooks.copy_(torch.randn(codec.quantizer.codebooks.shape, generator=rng) * 0.5)
    return codec


def random_latents(config: CodecConfig, frames: int, seed: int = 0) -> Tensor:
    """`[frames, D]`."""
    return torch.randn(frames, config.dimension, generator=torch.Generator().manual_seed(1000 + seed))
