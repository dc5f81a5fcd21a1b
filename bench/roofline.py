"""What memory allows: bytes a step must read, and how fast this machine reads them. Measured in the same run as the
step it is compared with, since neighbours on the machine take their share."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from sled_tts.model.config import SledConfig
from sled_tts.model.quantization import Precision
from sled_tts.server.engine.state import NOISE_BLOCK

_BYTES = {Precision.FP32: 4, Precision.BF16: 2, Precision.INT8: 1}


def read_bandwidth(megabytes: int = 512, rounds: int = 5, device: torch.device | str = "cpu") -> float:
    """Bytes a second that the set number of threads reads: best of `rounds` sums over more than the caches hold."""
    block = torch.ones(megabytes * 2**20 // 4, device=device)
    best = float("inf")
    for _ in range(rounds + 1):
        began = time.perf_counter()
        block.sum().item()
        best = min(best, time.perf_counter() - began)
    return block.numel() * 4 / best


@dataclass(frozen=True)
class Traffic:
    """Bytes a step reads at least: weights once whatever the batch, and what each row remembers."""

    weights: float
    cache: float

    @property
    def total(self) -> float:
        return self.weights + self.cache

    @classmethod
    def of(
        cls, config: SledConfig, precision: Precision, rows: int, context: int, cache_bytes: int = 4, streams: int = 1
    ) -> Traffic:
        """`rows` cached sequences of `context` positions; modulation is read once for `NOISE_BLOCK` frames of each
        stream."""
        size, width = config.hidden_size, config.generator.width
        backbone = config.num_hidden_layers * size * (4 * size + 3 * config.intermediate_size)
        conditioned = size * width + config.generator.depth * 2 * width * width
        modulation = (3 * config.generator.depth + 2) * width * width
        held = backbone + conditioned + streams * modulation / NOISE_BLOCK
        exact = config.latent_dim * (size + width) + size
        cache = 2 * config.num_hidden_layers * rows * context * size * cache_bytes
        return cls(_BYTES[precision] * held + 4 * exact, cache)
