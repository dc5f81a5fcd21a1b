"""A metric for the energy distance in which a direction of latent space counts as much as it can be foretold.

In a Euclidean metric the directions that nobody can foretell (the course of a breath's noise) make up most of every
distance. Among distances that hardly differ, the energy distance sees little more than means: samples come out spread
too far where speech is determined, and too little where it is not. Here the spread that is left when text and past are
known is made alike in all directions, and those that are noise are turned down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sled_tts.model.sled import Sled
from sled_tts.model.training.batches import Batch
from sled_tts.model.training.losses import condition_states


@dataclass(frozen=True)
class Spread:
    """Sums over `frames` of outer products `[D, D]`, float64: `total` of the normalised latents, `residual` of what
    the mean of the network's samples leaves of them when it reads the truth, `scatter` of a sample about that mean."""

    total: Tensor
    residual: Tensor
    scatter: Tensor
    frames: int

    def as_list(self) -> list[float]:
        return [float(self.frames), *torch.stack([self.total, self.residual, self.scatter]).flatten().tolist()]

    @classmethod
    def from_list(cls, values: list[float]) -> Spread:
        size = round(((len(values) - 1) / 3) ** 0.5)
        total, residual, scatter = torch.tensor(values[1:], dtype=torch.float64).view(3, size, size)
        return cls(total, residual, scatter, round(values[0]))


@dataclass
class EnergyMetric:
    """`matrix [D, D]`, by which latents are multiplied before their distances are taken; None for the paper's."""

    matrix: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"matrix": self.matrix}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.matrix = state["matrix"]


@torch.no_grad()
def measure_spread(
    model: Sled, batches: Iterable[Batch], *, samples: int = 8, seed: int = 0, prompts: bool = True
) -> Spread:
    """What the network foretells of some batches, from `samples` draws a frame (their own spread is taken off).
    `prompts`: their frames count as well."""
    size, noise_size = model.config.latent_dim, model.config.generator.noise_channels
    total, residual, scatter = torch.zeros(3, size, size, dtype=torch.float64)
    frames = 0
    torch.manual_seed(seed)
    for batch in batches:
        real = batch.speech_mask.bool()
        if not prompts:
            told = torch.tensor([prompt.frames for prompt in batch.prompts], device=real.device)
            real = real & (torch.arange(real.shape[1], device=real.device) >= told[:, None])
        states = condition_states(model, batch.ids, batch.latents, batch.layout(model.config))[:, :-1][real]
        truth = batch.latents[real].double().cpu()
        draws = torch.randn(samples, len(states), noise_size).to(states.device)
        made = torch.stack([model.generator(states, draw) for draw in draws]).double().cpu()
        mean = made.mean(0)
        own = (made - mean).flatten(0, 1)
        error = mean - truth
        total += truth.T @ truth
        spread = own.T @ own / (samples - 1)
        residual += error.T @ error - spread / samples
        scatter += spread
        frames += len(truth)
    return Spread(total, residual, scatter, frames)


def directions(spread: Spread, *, floor: float = 0.03) -> tuple[Tensor, Tensor]:
    """Directions that diagonalise what there is and what is left of it, as columns `[D, D]`, each of unit total
    variance, and the share of it `[D]` that is left: the best-known first. `floor` is added to both variances."""
    eye = torch.eye(len(spread.total), dtype=torch.float64) * floor
    total, residual = spread.total / spread.frames + eye, spread.residual / spread.frames + eye
    inverse = torch.linalg.inv(torch.linalg.cholesky(total))
    shares, turned = torch.linalg.eigh(inverse @ residual @ inverse.T)
    return inverse.T @ turned, shares


def energy_metric(spread: Spread, *, floor: float = 0.03, least: float = 0.04) -> Tensor:
    """The metric `[D, D]` for `y -> y @ metric`, fp32.

    In each of the `directions`, of unit total variance and residual share e, a coordinate is scaled by
    `sqrt((1 - e) / e)`. `floor`: a variance below which differences do not matter (of latents of unit variance);
    `least`: the smallest `1 - e` that counts, so that no direction is left to itself.
    """
    found, shares = directions(spread, floor=floor)
    scale = ((1 - shares).clamp(min=least) / shares.clamp(min=1e-3)).sqrt()
    metric: Tensor = found @ torch.diag(scale)
    return metric.float()
