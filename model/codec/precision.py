"""The codec's arithmetic is fp32 whatever surrounds it: under bf16 about 15 % of the encoder's codes change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast; on CUDA no TF32 inside convolutions and LSTMs either, which cuDNN takes by default."""
    with torch.autocast(device.type, enabled=False):
        if device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
