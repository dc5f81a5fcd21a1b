"""Training a residual vector quantiser: exponential moving average codebooks (Encodec, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sled_tts.model.codec.quantizer import ResidualVectorQuantizer


@dataclass
class EmaCodebooks:
    """Moves the codebooks of `quantizer` towards the latents they are used for.

    The first batch initialises the codes with its latents. A code used less than `revive_below` times a batch on
    average restarts at a latent of the batch. Every call uses a random number of stages, at least one, so that the
    first codebooks alone make speech too (bandwidth dropout).
    """

    quantizer: ResidualVectorQuantizer
    decay: float = 0.99
    revive_below: float = 0.02
    seed: int = 0
    usage: Tensor = field(init=False, repr=False)
    _sums: Tensor = field(init=False, repr=False)
    _random: torch.Generator = field(init=False, repr=False)
    _started: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        books = self.quantizer.codebooks
        self.usage = torch.ones(books.shape[:2])
        self._sums = books.clone()
        self._random = torch.Generator().manual_seed(self.seed)

    def __call__(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """`latents [B, S, D]` to (quantised, commitment loss); gradients pass straight through to the latents."""
        flat = latents.detach().reshape(-1, latents.shape[-1])
        n_q = len(self.usage)
        stages = int(torch.randint(1, n_q + 1, (), generator=self._random))
        residual, total = flat, torch.zeros_like(flat)
        commitment = torch.zeros((), device=latents.device)
        for stage in range(n_q):
            if not self._started:
                self.quantizer.codebooks[stage] = self._draw(residual)
                self._sums[stage] = self.quantizer.codebooks[stage]
            chosen = self._learn(stage, residual)
            if stage < stages:
                total = total + chosen
                commitment = commitment + F.mse_loss(latents, total.view_as(latents))
            residual = residual - chosen
        self._started = True
        return latents + (total.view_as(latents) - latents).detach(), commitment / stages

    def state_dict(self) -> dict[str, Any]:
        """All but the codebooks, which are the quantiser's."""
        return {
            "usage": self.usage, "sums": self._sums, "random": self._random.get_state(), "started": self._started
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.usage, self._sums, self._started = state["usage"], state["sums"], state["started"]
        self._random.set_state(state["random"])

    @torch.no_grad()
    def _learn(self, stage: int, residual: Tensor) -> Tensor:
        """The nearest codes `[N, D]` of one stage, before it moves towards the `residual [N, D]` they stand for."""
        book = self.quantizer.codebooks[stage]
        index = torch.cdist(residual, book).argmin(dim=1)
        chosen = F.embedding(index, book).clone()
        counts = torch.bincount(index, minlength=len(book)).float()
        sums = torch.zeros_like(book).index_add_(0, index, residual)
        self.usage[stage].mul_(self.decay).add_(counts, alpha=1 - self.decay)
        self._sums[stage].mul_(self.decay).add_(sums, alpha=1 - self.decay)
        dead = self.usage[stage] < self.revive_below
        self.quantizer.codebooks[stage] = self._sums[stage] / self.usage[stage].clamp(min=1e-5)[:, None]
        if bool(dead.any()):
            fresh = self._draw(residual)
            self.quantizer.codebooks[stage][dead] = fresh[dead]
            self._sums[stage][dead] = fresh[dead]
            self.usage[stage][dead] = 1.0
        return chosen

    def _draw(self, latents: Tensor) -> Tensor:
        """As many random rows as there are codes."""
        size = self.usage.shape[1]
        if len(latents) >= size:
            return latents[torch.randperm(len(latents), generator=self._random)[:size]].clone()
        return latents[torch.randint(len(latents), (size,), generator=self._random)].clone()
