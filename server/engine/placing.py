"""Which runner a checkpoint gets on a device, and whether keys and values may be held in 8 bits there."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ConfigError
from sled_tts.model.following import AlignmentHeads
from sled_tts.model.kernels.choose import KernelChoice, choose_kernels
from sled_tts.model.melody.melody import Melody
from sled_tts.model.sled import Sled
from sled_tts.server.engine.comparing import LatentError, latent_error
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.runner import SledRunner

log = logging.getLogger(__name__)

EIGHT_BITS = torch.float8_e4m3fn
# Of the root mean square of the latents. What bf16 weights alone cost is in docs/gpu.md.
MOST_CACHE_ERROR = 0.05

_GATE_STREAMS, _GATE_FRAMES, _GATE_TOKENS = 4, 120, 24


def cache_error(make: Callable[[int, int], DeviceRunner], sled: Sled, seed: int = 0) -> LatentError:
    """What 8-bit keys and values do to the latents of two runners made by `make(slots, positions)`."""
    kept = sled.cache_dtype
    positions = min(_GATE_FRAMES + _GATE_TOKENS + 1, sled.config.max_position_embeddings)
    try:
        sled.cache_dtype = None
        exact = make(_GATE_STREAMS, positions)
        sled.cache_dtype = EIGHT_BITS
        rough = make(_GATE_STREAMS, positions)
    finally:
        sled.cache_dtype = kept
    frames = positions - _GATE_TOKENS
    return latent_error(exact, rough, streams=_GATE_STREAMS, frames=frames, tokens=_GATE_TOKENS, seed=seed)


def place_runner(
    sled: Sled,
    codec: Codec,
    mean: Tensor,
    std: Tensor,
    *,
    slots: int,
    positions: int,
    noise_scale: float = 1.0,
    alignment: AlignmentHeads | None = None,
    melody: Melody | None = None,
    kernels: str = "auto",
) -> SledRunner | DeviceRunner:
    """A runner for the device the model is on, ready for its first request: graphs captured, kernels tried.

    Raises ConfigError when Triton's kernels are asked for where they do not work, and when 8-bit keys and values
    (`sled.cache_dtype`) do not work or change latents by more than `MOST_CACHE_ERROR`. A GPU too old for Triton's
    kernels on them gets plain torch, with a line in the log.
    """
    device = sled.cos.device
    wanted, kv8 = KernelChoice(kernels), sled.cache_dtype is EIGHT_BITS
    if device.type == "cpu":
        if wanted is KernelChoice.TRITON or kv8:
            name, what = ("kv_precision", "8-bit keys and values are") if kv8 else ("kernels", "Triton's kernels are")
            raise ConfigError(f"{what} for GPUs", param=name)
        return SledRunner(
            sled,
            codec,
            mean,
            std,
            slots=slots,
            positions=positions,
            noise_scale=noise_scale,
            alignment=alignment,
            melody=melody,
        )
    chosen = choose_kernels(device, sled.z_proj.weight.dtype, wanted, kv8)
    log.info("steps on %s run on kernels of %s", device, chosen.name)
    make = functools.partial(
        DeviceRunner,
        sled,
        codec,
        mean,
        std,
        noise_scale=noise_scale,
        kernels=chosen,
        alignment=alignment,
        melody=melody,
    )
    if kv8:
        check_cache(lambda s, p: make(slots=s, positions=p, graphed=False), sled)
    runner = make(slots=slots, positions=positions)
    runner.prepare()
    return runner


def check_cache(make: Callable[[int, int], DeviceRunner], sled: Sled) -> LatentError:
    """Raise ConfigError unless this device has 8-bit keys and values and this checkpoint bears them."""
    try:
        error = cache_error(make, sled)
    except NotImplementedError as missing:  # torch has an operator of e4m3 for other devices only
        why = f"8-bit keys and values do not work on {sled.cos.device}: {missing}"
        raise ConfigError(why, param="kv_precision") from missing
    log.info("8-bit keys and values change latents by %.3f (worst frame %.3f)", error.overall, error.worst_frame)
    if not error.overall <= MOST_CACHE_ERROR:
        raise ConfigError(
            f"8-bit keys and values change this checkpoint's latents by {error.overall:.3f}; "
            f"more than {MOST_CACHE_ERROR} is not served",
            param="kv_precision",
        )
    return error
