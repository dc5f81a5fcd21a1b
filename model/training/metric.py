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
    the mean of the network's samples leaves of them when it reads the truth."""

    total: Tensor
    residual: Tensor
    frames: int

    def as_list(self) -> list[float]:
        return [float(self.frames), *self.total.flatten().tolist(), *self.residual.flatten().tolist()]

    @classmethod
    def from_list(cls, values: list[float]) -> Spread:
        size = round(((len(values) - 1) / 2) ** 0.5)
        total, residual = torch.tensor(values[1:], dtype=torch.float64).view(2, size, size)
        return cls(total, residual, round(values[0]))


@dataclass
class EnergyMetric:
    """`matrix [D, D]`, by which latents are multiplied before their distances are taken; None for the paper's."""

    matrix: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"matrix": self.matrix}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.matrix = state["matrix"]


@torch.no_grad()
def measure_spread(model: Sled, batches: Iterable[Batch], *, samples: int = 8, seed: int = 0) -> Spread:
    """What the network foretells of some batches, from `samples` draws a frame (their own spread is taken off)."""
    size, noise_size = model.config.latent_dim, model.config.generator.noise_channels
    total, residual = torch.zeros(2, size, size, dtype=torch.float64)
    frames = 0
    torch.manual_seed(seed)
    for batch in batches:
        real = batch.speech_mask.bool()
        states = condition_states(model, batch.ids, batch.latents, batch.layout(model.config))[:, :-1][real]
        truth = batch.latents[real].double().cpu()
        draws = torch.randn(samples, len(states), noise_size).to(states.device)
        made = torch.stack([model.generator(states, draw) for draw in draws]).double().cpu()
        mean = made.mean(0)
        own = (made - mean).flatten(0, 1)
        error = mean - truth
        total += truth.T @ truth
        residual += error.T @ error - own.T @ own / (samples - 1) / samples
        frames += len(truth)
    return Spread(total, residual, frames)


def energy_metric(spread: Spread, *, floor: float = 0.03, least: float = 0.04) -> Tensor:
    """The metric `[D, D]` for `y -> y @ metric`, fp32.

    In the directions that diagonalise both covariances, each of unit total variance and residual share e, a coordinate
    is scaled by `sqrt((1 - e) / e)`. `floor`: a variance below which differences do not matter (of latents of unit
    variance); `least`: the smallest `1 - e` that counts, so that no direction is left to itself.
    """
    eye = torch.eye(len(spread.total), dtype=torch.float64) * floor
    total, residual = spread.total / spread.frames + eye, spread.residual / spread.frames + eye
    inverse = torch.linalg.inv(torch.linalg.cholesky(total))
    shares, directions = torch.linalg.eigh(inverse @ residual @ inverse.T)
    scale = ((1 - shares).clamp(min=least) / shares.clamp(min=1e-3)).sqrt()
    metric: Tensor = inverse.T @ directions @ torch.diag(scale)
    return metric.float()
