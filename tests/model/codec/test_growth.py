"""A decoder that grows sounds as before, and learns with its new layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.training.growth import grow_decoder
from sled_tts.model.training.polish import Polish, polish_decoder
from tests.model.codec.factories import DEEP, GROWN, NO_LSTM, SMALL, random_codec, random_latents


@pytest.mark.parametrize(("config", "layers"), [(SMALL, 3), (NO_LSTM, 2), (DEEP, 5)])
def test_nothing_is_heard_of_new_layers(config: object, layers: int) -> None:
    codec = random_codec(config)  # type: ignore[arg-type]
    grown = grow_decoder(codec, layers)
    assert grown.config.residual_layers_of_decoder == layers
    assert grown.config.n_residual_layers == codec.config.n_residual_layers
    latents = random_latents(codec.config, 9)[None]
    assert torch.equal(grown.decode(latents), codec.decode(latents))
    wave = torch.sin(torch.arange(12 * codec.config.hop_length) * 0.05)[None, None] * 0.3
    assert torch.equal(grown.encode(wave), codec.encode(wave))
    assert sum(p.numel() for p in grown.decoder.parameters()) > sum(p.numel() for p in codec.decoder.parameters())


def test_only_growing() -> None:
    codec = random_codec(GROWN)
    assert grow_decoder(codec, 3) is codec
    with pytest.raises(ModelError, match="residual_layers must be at least the decoder's 3, got 2"):
        grow_decoder(codec, 2)


def test_new_layers_learn_and_travel_in_the_folder(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).standard_normal(40_000) * 3000
    samples.astype("<i2").tofile(tmp_path / "audio.i16")
    grown = grow_decoder(random_codec(SMALL), 3)
    before = {name: value.clone() for name, value in grown.decoder.state_dict().items()}
    short = Polish(steps=12, batch=2, seconds=0.1, windows=(128,), filters=4, warmup=2, lr=2e-3, critic_every=1)
    polish_decoder(tmp_path, grown, short, tmp_path / "out")
    still = [name for name, value in grown.decoder.state_dict().items() if torch.equal(value, before[name])]
    assert not still
    loaded = Codec.load(tmp_path / "out")
    assert loaded.config == replace(SMALL, decoder_residual_layers=3)
    latents = random_latents(SMALL, 7)[None]
    torch.testing.assert_close(loaded.decode(latents), grown.eval().decode(latents), atol=1e-5, rtol=1e-4)
