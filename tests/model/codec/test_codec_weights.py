"""Layouts, checksums and strictness of codec weights; the quantiser."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from sled_tts.model.codec.codec import Codec, codec_config_from
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.codec.quantizer import ResidualVectorQuantizer
from sled_tts.model.codec.weights import export_state
from sled_tts.model.errors import CheckpointError, ConfigError

CONFIG = CodecConfig(sampling_rate=16_000, dimension=8, n_filters=2, ratios=(4, 2), codebook_size=16, n_q=2)


@pytest.fixture
def codec() -> Codec:
    torch.manual_seed(3)
    built = Codec(CONFIG)
    built.quantizer.codebooks.normal_()
    return built.eval().requires_grad_(False)


def to_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same numbers under transformers' key names."""
    out = {}
    for key, value in state.items():
        name = key.replace("encoder.model.", "encoder.layers.").replace("decoder.model.", "decoder.layers.")
        name = name.replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")
        name = name.replace("quantizer.vq.layers.", "quantizer.layers.").replace("._codebook.", ".codebook.")
        name = name.replace(".weight_g", ".parametrizations.weight.original0")
        out[name.replace(".weight_v", ".parametrizations.weight.original1")] = value
    return out


def test_folder_round_trip(codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    loaded = Codec.load(tmp_path)
    wave = torch.randn(2, 1, 333)
    assert torch.equal(loaded.encode_codes(wave), codec.encode_codes(wave))
    latents = torch.randn(2, 9, 8)
    torch.testing.assert_close(loaded.decode(latents), codec.decode(latents), atol=1e-6, rtol=0)


def test_both_public_layouts_hold_the_same_codec(codec: Codec) -> None:
    package = export_state(codec.state_dict())
    latents = torch.randn(1, 12, 8)
    for state in (package, to_transformers(package)):
        torch.testing.assert_close(
            Codec.from_state(CONFIG, state).decode(latents), codec.decode(latents), atol=1e-6, rtol=0
        )


def test_missing_extra_and_misshapen_tensors_are_named(codec: Codec) -> None:
    state = export_state(codec.state_dict())
    name = "decoder.model.0.conv.conv.bias"
    with pytest.raises(CheckpointError, match=name):
        Codec.from_state(CONFIG, {k: v for k, v in state.items() if k != name})
    with pytest.raises(CheckpointError, match=name):
        Codec.from_state(CONFIG, state | {name: torch.zeros(3)})
    with pytest.raises(CheckpointError, match="surprise"):
        Codec.from_state(CONFIG, state | {"surprise": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="codebook"):
        Codec.from_state(CONFIG, {k: v for k, v in state.items() if "layers.1._codebook" not in k})


def test_th_file_must_match_the_checksum_in_its_name(codec: Codec, tmp_path: Path) -> None:
    plain = tmp_path / "weights.th"
    torch.save(export_state(codec.state_dict()), plain)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()[:8]
    good = plain.rename(tmp_path / f"encodec_small-{digest}.th")
    assert Codec.load(good, CONFIG).config == CONFIG
    bad = good.rename(tmp_path / "encodec_small-00000000.th")
    with pytest.raises(CheckpointError, match="SHA-256"):
        Codec.load(bad, CONFIG)
    with pytest.raises(CheckpointError, match="no checksum"):
        Codec.load(bad.rename(tmp_path / "other.th"), CONFIG)


def test_transformers_config_gives_the_number_of_codebooks() -> None:
    config = codec_config_from(
        {"hidden_size": 128, "num_filters": 32, "codebook_size": 1024, "upsampling_ratios": [8, 5, 4, 2],
         "sampling_rate": 24_000, "pad_mode": "reflect"}
    )  # fmt: skip
    assert (config.n_q, config.hop_length, config.frame_rate) == (8, 320, 75.0)
    with pytest.raises(CheckpointError, match="pad_mode"):
        codec_config_from({"pad_mode": "constant"})
    with pytest.raises(ConfigError, match="surprise"):
        CodecConfig.from_dict({"surprise": 1})


def test_quantizer_takes_the_nearest_code_and_fit_reduces_the_error() -> None:
    torch.manual_seed(0)
    latents = torch.randn(400, 3)
    quantizer = ResidualVectorQuantizer(3, 16, 3)
    errors = quantizer.fit(latents)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * float(latents.pow(2).mean())
    codes = quantizer.encode(latents[None])
    nearest = torch.cdist(latents, quantizer.codebooks[0]).argmin(1)
    assert torch.equal(codes[0, 0], nearest)
    assert float((quantizer.decode(codes)[0] - latents).pow(2).mean()) == pytest.approx(errors[-1], rel=1e-3)
