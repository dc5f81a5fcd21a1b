"""The codec as one object: wave to latents and back, always in fp32."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.codec.networks import SEANetDecoder, SEANetEncoder
from sled_tts.model.codec.precision import full_precision
from sled_tts.model.codec.quantizer import ResidualVectorQuantizer
from sled_tts.model.codec.streaming import StreamingDecoder
from sled_tts.model.codec.weights import export_state, import_state, read_weights
from sled_tts.model.errors import CheckpointError

# transformers' EncodecConfig names -> ours; fields in `_FIXED` must hold the one value we implement.
_RENAMED = {
    "hidden_size": "dimension",
    "num_filters": "n_filters",
    "upsampling_ratios": "ratios",
    "num_residual_layers": "n_residual_layers",
    "dilation_growth_rate": "dilation_base",
    "num_lstm_layers": "lstm",
    "audio_channels": "channels",
}
_FIXED: dict[str, Any] = {
    "use_causal_conv": True,
    "pad_mode": "reflect",
    "norm_type": "weight_norm",
    "use_conv_shortcut": True,
    "normalize": False,
}
_SAME = set(CodecConfig.__dataclass_fields__)


def codec_config_from(data: Mapping[str, Any], *, bandwidth_kbps: float = 6.0) -> CodecConfig:
    """Read our own `config.json` or transformers' EncodecConfig (whose codebook count follows from the
    bandwidth: 6 kbps at 75 Hz and 1024 codes is 8)."""
    if "dimension" in data:
        return CodecConfig.from_dict(data)
    for key, value in _FIXED.items():
        if data.get(key, value) != value:
            raise CheckpointError(f"codec {key}={data[key]!r} is not supported (only {value!r})", param=key)
    values = {_RENAMED.get(key, key): value for key, value in data.items()}
    if "n_q" not in values:
        config = CodecConfig.from_dict({k: v for k, v in values.items() if k in _SAME})
        bits = (config.codebook_size - 1).bit_length()
        values["n_q"] = int(1000 * bandwidth_kbps // (config.frame_rate * bits))
    return CodecConfig.from_dict({k: v for k, v in values.items() if k in _SAME})


def _read_config(path: Path) -> CodecConfig:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"codec {path.name} in {path.parent} is not JSON: {error}", param=path.name) from None
    if not isinstance(data, dict):
        raise CheckpointError(f"codec {path.name} in {path.parent} must hold an object", param=path.name)
    return codec_config_from(data)


class Codec(nn.Module):
    """Encodec-architecture codec.

    Latents are sums of code embeddings, `[B, S, D]`, as SLED models them (arXiv 2505.13181, section 3.1).
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SEANetEncoder(config)
        self.quantizer = ResidualVectorQuantizer(config.n_q, config.codebook_size, config.dimension)
        self.decoder = SEANetDecoder(config)

    @classmethod
    def from_state(cls, config: CodecConfig, state: Mapping[str, Tensor]) -> Codec:
        """Build from a state dict in any supported layout; CheckpointError names what does not fit."""
        codec = cls(config)
        imported = import_state(state, config)
        own = codec.state_dict()
        for name in own:
            if name not in imported:
                raise CheckpointError(f"codec tensor {name} is missing", param=name)
            if imported[name].shape != own[name].shape:
                got, want = tuple(imported[name].shape), tuple(own[name].shape)
                raise CheckpointError(f"codec tensor {name} has shape {got}, expected {want}", param=name)
        unexpected = sorted(set(imported) - set(own))
        if unexpected:
            raise CheckpointError(f"unexpected codec tensor {unexpected[0]}", param=unexpected[0])
        codec.load_state_dict({name: value.float() for name, value in imported.items()})
        return codec.eval().requires_grad_(False)

    @classmethod
    def load(cls, path: Path, config: CodecConfig | None = None) -> Codec:
        """Load a folder (`config.json`, `model.safetensors`) or a single weight file of the published
        24 kHz model."""
        if path.is_dir():
            weights = path / "model.safetensors"
            if not weights.is_file() or not (path / "config.json").is_file():
                raise CheckpointError(f"codec folder {path} needs config.json and model.safetensors")
            return cls.from_state(config or _read_config(path / "config.json"), read_weights(weights))
        if not path.is_file():
            raise CheckpointError(f"codec weights {path} do not exist")
        return cls.from_state(config or CodecConfig(), read_weights(path))

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json` and `model.safetensors` in the `encodec` package's layout."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config.to_dict(), indent=1) + "\n", encoding="utf-8")
        state = {name: value.to(dtype) for name, value in export_state(self.state_dict()).items()}
        save_file(state, folder / "model.safetensors")

    @torch.inference_mode()
    def encode(self, wave: Tensor) -> Tensor:
        """Wave `[B, 1, N]` in -1..1 to quantised latents `[B, ceil(N / hop), D]`."""
        return self.quantizer.decode(self.encode_codes(wave))

    @torch.inference_mode()
    def encode_codes(self, wave: Tensor) -> Tensor:
        """Wave `[B, 1, N]` to codes `[B, n_q, ceil(N / hop)]`. ValueError for another shape or no samples."""
        with full_precision(wave.device):
            return self.quantizer.encode(self.encode_unquantised(wave))

    @torch.inference_mode()
    def encode_unquantised(self, wave: Tensor) -> Tensor:
        """Wave `[B, 1, N]` to what the encoder gives, `[B, ceil(N / hop), D]`. ValueError for another shape or no
        samples."""
        if wave.ndim != 3 or wave.shape[1] != 1 or wave.shape[2] == 0:
            raise ValueError(f"wave must be [B, 1, N >= 1], got {list(wave.shape)}")
        with full_precision(wave.device):
            latents: Tensor = self.encoder(wave.float())
            return latents.transpose(1, 2)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents `[B, S, D]` to wave `[B, S * hop]`. ValueError for another width or no frames."""
        if latents.ndim != 3 or latents.shape[1] == 0 or latents.shape[2] != self.config.dimension:
            raise ValueError(f"latents must be [B, S >= 1, {self.config.dimension}], got {list(latents.shape)}")
        with full_precision(latents.device):
            wave: Tensor = self.decoder(latents.float().transpose(1, 2))
            return wave[:, 0]

    def streaming_decoder(self, slots: int) -> StreamingDecoder:
        """A stateful decoder for `slots` concurrent streams."""
        return StreamingDecoder(self.decoder, slots, self.config.first_chunk_frames)
