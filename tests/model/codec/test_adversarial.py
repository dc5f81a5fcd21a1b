"""Discriminator, balancer and the adversarial stage of codec training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.training.balancer import Balancer
from sled_tts.model.training.discriminator import (
    MultiScaleStftDiscriminator,
    discriminator_loss,
    feature_loss,
    generator_loss,
)
from sled_tts.model.training.polish import Polish, PolishReport, polish_decoder
from tests.model.codec.factories import SMALL, random_codec


def test_the_discriminator_learns_noise_from_tones() -> None:
    torch.manual_seed(0)
    judge = MultiScaleStftDiscriminator((256, 128), filters=4)
    optimiser = torch.optim.Adam(judge.parameters(), lr=2e-3)
    time = torch.arange(2048) / 16_000

    def tones() -> Tensor:
        return torch.sin(2 * torch.pi * (200 + 800 * torch.rand(4, 1)) * time)

    for _ in range(40):
        loss = discriminator_loss(judge(tones()), judge(0.7 * torch.randn(4, 2048)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 1.0
    with torch.no_grad():
        heard, noise = judge(tones()), judge(0.7 * torch.randn(4, 2048))
    assert generator_loss(heard) < generator_loss(noise)
    assert feature_loss(heard, heard) == 0
    assert feature_loss(heard, noise) > 0.1


def test_balanced_gradients_have_their_shares_whatever_the_size_of_the_losses() -> None:
    output = torch.randn(3, 50, requires_grad=True)
    left, right = torch.zeros(3, 50), torch.zeros(3, 50)
    left[:, :25], right[:, 25:] = 1.0, 1.0
    balancer = Balancer({"small": 1.0, "large": 3.0})
    for _ in range(5):
        gradient = balancer.gradient(
            {"small": 1e-4 * (left * output).square().sum(), "large": 1e4 * (right * output).square().sum()}, output
        )
    norms = gradient[:, :25].norm(dim=1).mean(), gradient[:, 25:].norm(dim=1).mean()
    assert norms[0] == pytest.approx(0.25, rel=1e-3)
    assert norms[1] == pytest.approx(0.75, rel=1e-3)


@pytest.mark.parametrize("weights", [{}, {"a": 0.0}, {"a": 1.0, "b": -1.0}])
def test_weights_must_be_shares(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Balancer(weights)


def test_every_loss_needs_a_weight() -> None:
    output = torch.ones(1, 2, requires_grad=True)
    with pytest.raises(ValueError, match="weights for"):
        Balancer({"a": 1.0}).gradient({"b": output.sum()}, output)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    samples = np.random.default_rng(0).standard_normal(40_000) * 3000
    samples.astype("<i2").tofile(tmp_path / "audio.i16")
    return tmp_path


SHORT = Polish(steps=60, batch=2, seconds=0.1, windows=(128,), filters=4, warmup=5, lr=2e-3, critic_every=1)


def test_the_decoder_changes_and_nothing_else(corpus: Path, tmp_path: Path) -> None:
    codec = random_codec(SMALL)
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    reports: list[PolishReport] = []
    polish_decoder(corpus, codec, SHORT, tmp_path / "out", report=reports.append)
    after = codec.state_dict()
    assert {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])} == {"decoder"}
    assert [report.step for report in reports] == [50, 60]
    saved = Codec.load(tmp_path / "out")
    latents = torch.randn(1, codec.config.dimension, 6)
    torch.testing.assert_close(saved.decoder(latents), codec.decoder(latents), atol=1e-5, rtol=1e-4)


def test_the_mean_of_the_last_steps_is_kept(corpus: Path, tmp_path: Path) -> None:
    """Of one step from weights that stay: the same weights; of more, between them and the last ones."""
    ends = {}
    for average in (0.0, 0.5):
        codec = random_codec(SMALL)
        begun = {name: tensor.clone() for name, tensor in codec.decoder.state_dict().items()}
        kept = polish_decoder(corpus, codec, replace(SHORT, steps=7, average=average), tmp_path / str(average))
        assert kept is codec
        assert not any(parameter.requires_grad for parameter in codec.parameters())
        written = Codec.load(tmp_path / str(average)).decoder
        latents = torch.randn(1, codec.config.dimension, 6)
        torch.testing.assert_close(written(latents), codec.decoder(latents), atol=1e-5, rtol=1e-4)
        ends[average] = {name: tensor - begun[name] for name, tensor in codec.decoder.state_dict().items()}
    # Two steps are trained after five of warming up: both at about the learning rate.
    moved = [sum(float(change.abs().sum()) for change in ends[average].values()) for average in (0.0, 0.5)]
    assert 0.5 * moved[0] < moved[1] < 0.999 * moved[0]


def test_a_loss_that_is_not_finite_is_reported(corpus: Path, tmp_path: Path) -> None:
    codec = random_codec(SMALL)
    with torch.no_grad():
        next(codec.decoder.parameters()).fill_(float("inf"))
    with pytest.raises(ModelError, match="at step"):
        polish_decoder(corpus, codec, replace(SHORT, steps=10), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_killed_and_resumed_in_place_ends_with_the_same_bits(corpus: Path, tmp_path: Path, average: float) -> None:
    """Also when the codec is polished in its own folder, which an interrupted run has already written to."""

    class Killed(Exception):
        pass

    def kill(report: PolishReport) -> None:
        raise Killed

    training = replace(SHORT, save_every=20, average=average)
    for name in ("whole", "cut"):
        random_codec(SMALL).save(tmp_path / name)
    polish_decoder(corpus, Codec.load(tmp_path / "whole"), training, tmp_path / "whole")
    with pytest.raises(Killed):
        polish_decoder(corpus, Codec.load(tmp_path / "cut"), training, tmp_path / "cut", report=kill)
    reports: list[PolishReport] = []
    polish_decoder(corpus, Codec.load(tmp_path / "cut"), training, tmp_path / "cut", report=reports.append)
    assert [report.step for report in reports] == [50, 60]
    assert not (tmp_path / "cut.run").exists()
    written = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert written[0] == written[1]
