"""The device's buffers, allocated once: caches, sampled latents, noise modulation. Slot-addressed throughout."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.generation import OFFLINE_STOP_THRESHOLD, STREAMING_STOP_THRESHOLD
from sled_tts.model.generator import Modulation
from sled_tts.model.kv_cache import KVCache
from sled_tts.model.sled import Sled
from sled_tts.server.engine.request import Mode
from sled_tts.server.engine.work import RunnerInfo

# Frames of noise drawn and modulated at once: the modulation is most of the generator's weights.
NOISE_BLOCK = 8


@dataclass
class EngineState:
    """`latents [slots, positions, D]` are normalised, the prompt's first, `filled` of them valid a slot.

    Slot s owns cache rows 2s (conditional) and 2s + 1 (guidance); the last cache row absorbs padding.
    `mean`, `std` `[D]` relate the codec's latents to those: `(codec - mean) / std`.
    `blocks[i] [slots, NOISE_BLOCK, 3W]` and `final [slots, NOISE_BLOCK, 2W]` hold modulation, `used` of it spent.
    """

    cache: KVCache
    latents: Tensor
    mean: Tensor
    std: Tensor
    blocks: list[Tensor]
    final: Tensor
    scale: Tensor
    stop_at: Tensor
    guided: list[bool]
    filled: list[int]
    used: list[int]
    noise: list[torch.Generator] = field(repr=False)

    @classmethod
    def allocate(
        cls, sled: Sled, slots: int, positions: int, mean: Tensor, std: Tensor, *, zeroed: bool
    ) -> EngineState:
        """`zeroed` is for steps that read unwritten positions under a mask: NaN times a weight of 0 is still NaN."""
        config = sled.config
        device, dtype = sled.cos.device, sled.z_proj.weight.dtype
        rows = 2 * slots + 1
        shape = (rows, config.num_attention_heads, positions, config.head_dim)

        def cache_layer() -> Tensor:
            # Untouched pages of a CPU's memory cost nothing.
            make = torch.zeros if zeroed else torch.empty
            return make(shape, device=device, dtype=sled.cache_dtype or dtype)

        layers = range(config.num_hidden_layers)
        width = config.generator.width

        def block(columns: int) -> Tensor:
            return torch.zeros(slots, NOISE_BLOCK, columns, device=device, dtype=dtype)

        return cls(
            cache=KVCache([cache_layer() for _ in layers], [cache_layer() for _ in layers], [0] * rows),
            latents=torch.zeros(slots, positions, config.latent_dim, device=device),
            mean=mean.to(device).float(),
            std=std.to(device).float(),
            blocks=[block(3 * width) for _ in range(config.generator.depth)],
            final=block(2 * width),
            scale=torch.ones(slots, device=device),
            stop_at=torch.zeros(slots, device=device),
            guided=[False] * slots,
            filled=[0] * slots,
            used=[0] * slots,
            noise=[torch.Generator() for _ in range(slots)],
        )

    @staticmethod
    def stream_bytes(sled: Sled, positions: int) -> int:
        """Memory of one slot: both cache rows, its latents, and its noise."""
        config, item = sled.config, sled.z_proj.weight.element_size()
        held = item if sled.cache_dtype is None else sled.cache_dtype.itemsize
        kv = 2 * 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * positions * held
        noise = NOISE_BLOCK * (3 * config.generator.depth + 2) * config.generator.width * item
        if held == 1:  # a scale for each head of each position
            kv += 2 * 2 * config.num_hidden_layers * config.num_attention_heads * positions * 4
        return kv + 4 * config.latent_dim * positions + noise

    def enter(self, slot: int, latents: Tensor) -> None:
        """Begin a slot with codec latents `[S, D]` to go on from."""
        self.latents[slot, : len(latents)] = (latents - self.mean) / self.std
        self.filled[slot] = len(latents)

    def for_codec(self, slot: int, start: int, count: int) -> Tensor:
        """Frames `[start, start + count)` of a slot as codec latents `[count, D]`."""
        return self.latents[slot, start : start + count] * self.std + self.mean

    @property
    def padding_row(self) -> int:
        return len(self.cache.lengths) - 1

    @property
    def ahead(self) -> Modulation:
        """All modulation computed so far, `[slots, NOISE_BLOCK, ...]`."""
        return Modulation(self.blocks, self.final)


def runner_info(sled: Sled, codec: Codec, slots: int, positions: int) -> RunnerInfo:
    """What a runner says of itself that gives `slots` streams `positions` each."""
    config = sled.config
    return RunnerInfo(
        slots=slots,
        positions=positions,
        sampling_rate=codec.config.sampling_rate,
        hop=codec.config.hop_length,
        first_chunk_frames=codec.config.first_chunk_frames,
        eos_id=config.eos_token_id,
        vocab_size=config.vocab_size,
        latent_dim=config.latent_dim,
        n=config.stream_n,
        m=config.stream_m,
        stream_bytes=EngineState.stream_bytes(sled, positions),
    )


def stop_level(mode: Mode) -> float:
    """The stop head's logit from which a frame is the last one."""
    threshold = OFFLINE_STOP_THRESHOLD if mode is Mode.OFFLINE else STREAMING_STOP_THRESHOLD
    return math.log(threshold / (1 - threshold))


def draw_noise(source: torch.Generator, channels: int) -> Tensor:
    """The next `NOISE_BLOCK` frames of noise `[NOISE_BLOCK, C]`, the same as drawn one after another."""
    if channels % 16 == 0:  # torch then fills sixteen at a time, whatever the shape
        return torch.randn(NOISE_BLOCK, channels, generator=source)
    return torch.stack([torch.randn(channels, generator=source) for _ in range(NOISE_BLOCK)])
