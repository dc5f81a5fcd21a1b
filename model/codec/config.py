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

    `ratios` are the decoder's upsampling factors in order; the encoder uses them reversed.
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

    def __post_init__(self) -> None:
        if not self.ratios or min(self.ratios) < 2:
            raise ConfigError(f"codec ratios must all be >= 2, got {list(self.ratios)}", param="ratios")
        if self.channels != 1:
            raise ConfigError(f"codec channels must be 1 (mono), got {self.channels}", param="channels")
        if self.trim_right_ratio != 1.0:
            raise ConfigError("codec trim_right_ratio must be 1.0 (causal)", param="trim_right_ratio")

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
        """Latents needed before streaming output can equal offline output: the first convolution's
        reflect padding mirrors `kernel_size - 1` frames around frame 0."""
        return self.kernel_size

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CodecConfig:
        """Build from a plain mapping; an unknown key is an error that names it."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigError(f"unknown codec config key(s): {', '.join(unknown)}", param=unknown[0])
        values = dict(data)
        if "ratios" in values:
            values["ratios"] = tuple(values["ratios"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratios": list(self.ratios)}
