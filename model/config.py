"""Configuration of the SLED network, read from the published `config.json` layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.errors import ConfigError

__all__ = ["DEFAULT_CFG_SCALE", "CodecConfig", "GeneratorConfig", "SledConfig"]

# The published one.
DEFAULT_CFG_SCALE = 2.0
# Bookkeeping written by transformers; none of it changes what the network computes.
_IGNORED = {
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "use_cache", "tie_word_embeddings",
    "initializer_range", "pretraining_tp", "auto_map", "_name_or_path", "rope_scaling", "infer_cfg",
}  # fmt: skip
# Fields the implementation supports at one value only.
_FIXED: dict[str, Any] = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}


@dataclass(frozen=True)
class GeneratorConfig:
    """The per-token generator g: an MLP of `depth` residual blocks of `width`, fed `noise_channels` of noise."""

    depth: int
    width: int
    noise_channels: int


@dataclass(frozen=True)
class SledConfig:
    """A SLED network. `stream_n` and `stream_m` are None for an offline model."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    latent_dim: int
    generator: GeneratorConfig
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    training_cfg: float = 0.0
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    bos_token_id: int = 0
    eos_token_id: int = 2
    pad_token_id: int = 1
    stream_n: int | None = None
    stream_m: int | None = None

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads or (self.hidden_size // self.num_attention_heads) % 2:
            raise ConfigError(
                f"hidden_size {self.hidden_size} must be an even multiple of num_attention_heads "
                f"{self.num_attention_heads}",
                param="hidden_size",
            )
        if (self.stream_n is None) != (self.stream_m is None):
            raise ConfigError("stream_n and stream_m must be given together", param="stream_n")
        for name in ("stream_n", "stream_m"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}", param=name)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def is_streaming(self) -> bool:
        return self.stream_n is not None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SledConfig:
        """Build from a `config.json` mapping. An unknown key, or a value we do not implement, is an error
        that names it."""
        values = {key: value for key, value in data.items() if key not in _IGNORED}
        for key, only in _FIXED.items():
            if values.pop(key, only) != only:
                raise ConfigError(f"{key}={data[key]!r} is not supported (only {only!r})", param=key)
        if data.get("rope_scaling") is not None:
            raise ConfigError("rope_scaling is not supported", param="rope_scaling")
        heads = values.get("num_attention_heads")
        if values.pop("num_key_value_heads", heads) != heads:
            raise ConfigError(
                f"num_key_value_heads={data['num_key_value_heads']} is not supported (only {heads}, one for each head)",
                param="num_key_value_heads",
            )
        if "head_dim" in values and values.pop("head_dim") not in (
            None,
            data["hidden_size"] // data["num_attention_heads"],
        ):
            raise ConfigError("head_dim must be hidden_size / num_attention_heads", param="head_dim")
        try:
            generator = GeneratorConfig(
                depth=values.pop("diffloss_d"),
                width=values.pop("diffloss_w"),
                noise_channels=values.pop("noise_channels"),
            )
            values["latent_dim"] = values.pop("vae_embed_dim")
        except KeyError as missing:
            raise ConfigError(f"config key {missing.args[0]} is missing", param=missing.args[0]) from None
        if values.get("pad_token_id", 1) is None:
            del values["pad_token_id"]
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ConfigError(f"unknown config key(s): {', '.join(unknown)}", param=unknown[0])
        try:
            return cls(generator=generator, **values)
        except TypeError as error:
            raise ConfigError(f"config: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The published `config.json` layout; inverse of `from_dict`."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        generator = data.pop("generator")
        data["vae_embed_dim"] = data.pop("latent_dim")
        data |= {"diffloss_d": generator.depth, "diffloss_w": generator.width}
        data["noise_channels"] = generator.noise_channels
        data["num_key_value_heads"] = self.num_attention_heads
        return {key: value for key, value in data.items() if value is not None}
