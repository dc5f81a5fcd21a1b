"""Offline encode and decode: shapes, quantiser, and training-side fitting of codebooks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.codec.networks import CausalConv1d, init_for_training, reflect_pad
from sled_tts.model.codec.quantizer import ResidualVectorQuantizer
from tests.model.codec.factories import DEEP, SHAPES, SMALL, random_codec, random_latents


@pytest.mark.parametrize("name", SHAPES)
def test_one_latent_for_every_started_hop(name: str) -> None:
    codec, config = random_codec(SHAPES[name]), SHAPES[name]
    hop = config.hop_length
    for samples in (1, hop - 1, hop, hop + 1, 5 * hop, 9 * hop + 2):
        wave = torch.sin(torch.arange(samples) * 0.3)[None, None].repeat(2, 1, 1)
        frames = -(-samples // hop)
        assert codec.encode_codes(wave).shape == (2, config.n_q, frames)
        latents = codec.encode(wave)
        assert latents.shape == (2, frames, config.dimension)
        assert codec.decode(latents).shape == (2, frames * hop)


@pytest.mark.parametrize("shape", [(3, 100), (1, 2, 100), (1, 1, 0)])
def test_encode_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"wave must be \[B, 1, N >= 1\]"):
        random_codec(SMALL).encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 0, 6), (1, 4, 5), (4, 6)])
def test_decode_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"latents must be \[B, S >= 1, 6\]"):
        random_codec(SMALL).decode(torch.zeros(shape))


@pytest.mark.parametrize("config", [SMALL, DEEP])
def test_networks_are_causal(config: CodecConfig) -> None:
    """The future reaches the past through reflection around frame 0 alone."""
    codec = random_codec(config)
    latents = random_latents(config, 40)[None]
    changed = latents.clone()
    changed[:, 30:] += 1.0
    moved = (codec.decode(changed) - codec.decode(latents)).abs()[0]
    assert moved[: 30 * config.hop_length].max() == 0
    assert moved[30 * config.hop_length :].max() > 1e-3
    wave = codec.decode(latents)[:, None]
    louder = wave.clone()
    louder[..., 30 * config.hop_length :] *= 2
    heard = (codec.encoder(louder) - codec.encoder(wave)).abs()[0]
    assert heard[:, :30].max() == 0
    assert heard[:, 30:].max() > 1e-3


def test_reflection_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert reflect_pad(x, 2, 1).tolist() == [[[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]]
    # Too short to mirror four: a zero is appended, mirrored, and cut off again.
    assert reflect_pad(x, 4, 0).tolist() == [[[0.0, 0.0, 3.0, 2.0, 1.0, 2.0, 3.0]]]
    assert reflect_pad(torch.tensor([[[5.0]]]), 2, 0).tolist() == [[[0.0, 0.0, 5.0]]]


def test_strided_convolution_pads_a_ragged_end() -> None:
    conv = CausalConv1d(1, 1, 4, stride=2)
    torch.nn.init.ones_(conv.inner.weight)
    torch.nn.init.zeros_(conv.inner.bias)  # type: ignore[arg-type]
    # Left context 2 mirrors to 3, 2; the missing fourth sample mirrors to 2.
    assert conv(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist() == [[[8.0, 8.0]]]


def test_quantiser_takes_the_nearest_code_of_what_is_left() -> None:
    quantizer = ResidualVectorQuantizer(3, 16, 6)
    quantizer.codebooks.copy_(torch.randn(3, 16, 6, generator=torch.Generator().manual_seed(1)))
    latents = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))
    codes = quantizer.encode(latents)
    assert codes.shape == (2, 3, 5)
    for row in range(2):
        for frame in range(5):
            left = latents[row, frame].double()
            for stage in range(3):
                book = quantizer.codebooks[stage].double()
                assert codes[row, stage, frame] == ((book - left) ** 2).sum(1).argmin()
                left = left - book[codes[row, stage, frame]]
            total = latents[row, frame] - left
            torch.testing.assert_close(quantizer.decode(codes)[row, frame], total.float())


def test_ties_go_to_the_first_code() -> None:
    quantizer = ResidualVectorQuantizer(1, 4, 2)
    quantizer.codebooks.copy_(torch.tensor([[[9.0, 9.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]]))
    assert quantizer.encode(torch.tensor([[[1.0, 0.1]]])).tolist() == [[[1]]]


def test_fitting_finds_the_clusters_and_each_stage_helps() -> None:
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(8, 4, generator=rng) * 5
    latents = centres[torch.randint(8, (4000,), generator=rng)] + 0.1 * torch.randn(4000, 4, generator=rng)
    quantizer = ResidualVectorQuantizer(3, 16, 4)
    errors = quantizer.fit(latents)
    assert errors[0] < 0.05  # the variance inside a cluster is 0.01, that of the data about 25
    assert errors[0] > errors[1] > errors[2]
    rebuilt = quantizer.decode(quantizer.encode(latents[None]))[0]
    assert F.mse_loss(rebuilt, latents).item() == pytest.approx(errors[2], rel=1e-3)
    with pytest.raises(ValueError, match="at least as many latents, got 15"):
        quantizer.fit(latents[:15])


def test_fresh_networks_pass_signals_and_gradients() -> None:
    """What `init_for_training` is for: the default initialisation is silent (ten times below)."""
    torch.manual_seed(0)
    codec = random_codec(SMALL).train().requires_grad_(True)
    init_for_training(codec.encoder)
    init_for_training(codec.decoder)
    wave = 0.1 * torch.randn(2, 1, 60 * SMALL.hop_length)
    out = codec.decoder(codec.encoder(wave))
    assert 0.05 < float(out.detach().std() / wave.std()) < 20
    out.square().mean().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in codec.parameters())
    assert float(next(codec.encoder.parameters()).grad.abs().max()) > 0  # type: ignore[union-attr]
