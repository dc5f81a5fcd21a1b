"""Hyper-parameters of an Encodec-architecture codec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sled_tts.model.errors import ConfigError


@dataclass(frozen=True)
class CodecConfig:
    """Encodec hyper-parameters; the defaults are the published 24 kHz model at 6 kbps.

    `ratios` are the decoder's upsampling factors in order; the encoder uses them reversed. `n_residual_layers` follow
    each change of rate; the decoder has `decoder_residual_layers` where that is set.
    """

    sampling_rate: int = 24_000
    channels: int = 1
    dimension: int = 128
    n_filters: int = 32
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    n_residual_layers: int = 1
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2
    codebook_size: int = 1024
    n_q: int = 8
    trim_right_ratio: float = 1.0
    decoder_residual_layers: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name == "decoder_residual_layers" and value is None:
                continue
            least = 0 if name in ("lstm", "n_residual_layers", "decoder_residual_layers") else 1
            numbers = value if name == "ratios" else (value,)
            if name != "trim_right_ratio" and any(type(v) is not int or v < least for v in numbers):
                raise ConfigError(f"codec {name} must be an integer >= {least}, got {value!r}", param=name)
        if not self.ratios or min(self.ratios) < 2:
            raise ConfigError(f"codec ratios must all be >= 2, got {list(self.ratios)}", param="ratios")
        if self.n_filters % self.compress:
            raise ConfigError(
                f"codec n_filters must be a multiple of compress={self.compress}, got {self.n_filters}",
                param="n_filters",
            )
        if self.channels != 1:
            raise ConfigError(f"codec channels must be 1 (mono), got {self.channels}", param="channels")
        if self.trim_right_ratio != 1.0:
            raise ConfigError("codec trim_right_ratio must be 1.0 (causal)", param="trim_right_ratio")

    @property
    def residual_layers_of_decoder(self) -> int:
        own = self.decoder_residual_layers
        return self.n_residual_layers if own is None else own

    @property
    def hop_length(self) -> int:
        """Samples per latent frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.sampling_rate / self.hop_length

    @property
    def first_chunk_frames(self) -> int:
        """Latents needed before streaming output can equal offline output: a convolution's reflect padding
        mirrors its left context around frame 0, so it wants one input more than that. 7 as published, where
        the first convolution decides; strong dilation behind small ratios can need more."""
        needed = [self.kernel_size]
        for stage in range(len(self.ratios)):
            samples = math.prod(self.ratios[: stage + 1])
            for layer in range(self.residual_layers_of_decoder):
                context = (self.residual_kernel_size - 1) * self.dilation_base**layer
                needed.append(math.ceil((context + 1) / samples))
        needed.append(math.ceil(self.last_kernel_size / self.hop_length))
        return max(needed)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CodecConfig:
        """Build from a plain mapping; an unknown key is an error that names it."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigError(f"unknown codec config key(s): {', '.join(unknown)}", param=unknown[0])
        values = dict(data)
        if "ratios" in values:
            if not isinstance(values["ratios"], list | tuple):
                raise ConfigError(f"codec ratios must be a list, got {values['ratios']!r}", param="ratios")
            values["ratios"] = tuple(values["ratios"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratios": list(self.ratios)}
