"""EMA training of the residual quantiser."""

from __future__ import annotations

import torch
from torch import Tensor

from sled_tts.model.codec.quantizer import ResidualVectorQuantizer
from sled_tts.model.training.vq import EmaCodebooks


def clusters(count: int, seed: int) -> Tensor:
    """Latents `[4, count, 6]` around eight fixed centres."""
    centres = 4 * torch.randn(8, 6, generator=torch.Generator().manual_seed(99))
    rng = torch.Generator().manual_seed(seed)
    return centres[torch.randint(8, (4, count), generator=rng)] + 0.1 * torch.randn(4, count, 6, generator=rng)


def error_of(quantizer: ResidualVectorQuantizer, latents: Tensor) -> float:
    return float((quantizer.decode(quantizer.encode(latents)) - latents).square().mean())


def test_codebooks_find_the_clusters_and_use_all_codes() -> None:
    quantizer = ResidualVectorQuantizer(2, 8, 6)
    training = EmaCodebooks(quantizer, decay=0.8)
    training(clusters(40, 0))
    before = error_of(quantizer, clusters(200, 500))
    for seed in range(1, 60):
        training(clusters(40, seed))
    assert error_of(quantizer, clusters(200, 500)) < min(0.02, before)
    assert (training.usage[0] > 1).all(), "no code of the first stage is left over"


def test_gradients_pass_straight_through_and_commit() -> None:
    training = EmaCodebooks(ResidualVectorQuantizer(3, 4, 6))
    latents = clusters(10, 1).requires_grad_(True)
    quantised, commitment = training(latents)
    weights = torch.randn_like(latents)
    (gradient,) = torch.autograd.grad((quantised * weights).sum(), latents, retain_graph=True)
    torch.testing.assert_close(gradient, weights)
    (pull,) = torch.autograd.grad(commitment, latents)
    assert pull.abs().sum() > 0


def test_codes_nobody_uses_are_revived() -> None:
    quantizer = ResidualVectorQuantizer(1, 4, 6)
    training = EmaCodebooks(quantizer, decay=0.5, revive_below=0.1)
    training(clusters(20, 0))
    quantizer.codebooks[0, 3] = 1e4
    training._sums[0, 3], training.usage[0, 3] = 1e4, 1.0
    for seed in range(1, 8):
        training(clusters(20, seed))
    assert quantizer.codebooks.abs().max() < 100


def test_the_same_seed_gives_the_same_codebooks() -> None:
    books = []
    for _ in range(2):
        quantizer = ResidualVectorQuantizer(2, 8, 6)
        training = EmaCodebooks(quantizer, seed=4)
        for seed in range(3):
            training(clusters(30, seed))
        books.append(quantizer.codebooks)
    assert torch.equal(*books)
