"""Floating point operations of speaking, counted from the configuration.

A product of a `[1, a]` row with an `[a, b]` weight counts `2 a b`, attention over P positions `4 P H` a layer and row.
Norms, activations and rotations are left out, as profilers leave them out.
"""

from __future__ import annotations

from dataclasses import dataclass

from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.config import SledConfig


@dataclass(frozen=True)
class StepFlops:
    """FLOP of one position or frame: `backbone` without attention, `attention` of one remembered position, `generator`
    with its modulation (of which `modulation` depends on noise alone), and what `embed` costs to read a latent."""

    backbone: int
    attention: int
    generator: int
    modulation: int
    embed: int
    stop: int

    @classmethod
    def of(cls, config: SledConfig) -> StepFlops:
        size, inner, width = config.hidden_size, config.intermediate_size, config.generator.width
        depth, layers = config.generator.depth, config.num_hidden_layers
        modulation = config.generator.noise_channels * width + depth * 3 * width * width + 2 * width * width
        conditioned = size * width + depth * 2 * width * width + width * config.latent_dim
        return cls(
            backbone=2 * layers * (4 * size * size + 3 * size * inner),
            attention=4 * layers * size,
            generator=2 * (modulation + conditioned),
            modulation=2 * modulation,
            embed=2 * config.latent_dim * size,
            stop=2 * size,
        )


def speaking_flops(config: SledConfig, frames: int, tokens: int, *, guided: bool = True, attention: bool = True) -> int:
    """FLOP of speaking `frames` frames of a text of `tokens`, read at once, without a prompt and without the codec.

    `guided`: the second row of classifier-free guidance too, which sees `</s>` and the speech.
    """
    step = StepFlops.of(config)
    rows = [tokens, 1] if guided else [tokens]
    total = frames * (step.generator + step.stop)
    for text in rows:
        # The last frame is not read again.
        read = frames - 1
        total += (text + read) * step.backbone + read * step.embed
        if attention:
            seen = text * text if text > 1 else 1
            # Profilers count a whole block of queries against all keys: `text` squared, not its half.
            total += step.attention * (seen + sum(text + frame for frame in range(1, read + 1)))
    return total


def decoder_flops(config: CodecConfig, frames: int) -> int:
    """FLOP of decoding `frames` latents: convolutions `2 in out kernel` an output sample, LSTM `16 C^2` a frame."""
    # A power of integers is Any to the type checker.
    channels: int = config.n_filters * 2 ** len(config.ratios)
    length, total = frames, 0

    def conv(inside: int, outside: int, kernel: int, samples: int) -> int:
        return 2 * inside * outside * kernel * samples

    total += conv(config.dimension, channels, config.kernel_size, length)
    total += config.lstm * 2 * 8 * channels * channels * length
    for ratio in config.ratios:
        # A transposed convolution spreads each input over `2 ratio` outputs.
        total += conv(channels, channels // 2, 2 * ratio, length)
        channels, length = channels // 2, length * ratio
        inner = channels // config.compress
        for _ in range(config.residual_layers_of_decoder):
            total += conv(channels, inner, config.residual_kernel_size, length) + conv(inner, channels, 1, length)
            total += conv(channels, channels, 1, length)
    return total + conv(channels, config.channels, config.last_kernel_size, length)
