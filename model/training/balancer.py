"""Loss balancer (Encodec, arXiv 2210.13438, section 3.4): a weight is a share of the gradient, not of a loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Balancer:
    """Scales each loss's gradient at the decoder's output to its share of `total` by a running mean of its norm.

    So the size of a loss, which for an adversarial one drifts, does not matter; only `weights` do.
    """

    weights: Mapping[str, float]
    total: float = 1.0
    decay: float = 0.999
    _norms: dict[str, tuple[float, float]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0:
            raise ValueError(f"weights must be non-negative with a positive sum, got {dict(self.weights)}")

    def gradient(self, losses: Mapping[str, Tensor], output: Tensor) -> Tensor:
        """The balanced gradient with respect to `output`; call `output.backward(gradient)` with it.

        Raises ValueError when the losses are not those that have weights.
        """
        if set(losses) != set(self.weights):
            raise ValueError(f"losses {sorted(losses)} but weights for {sorted(self.weights)}")
        share = self.total / sum(self.weights.values())
        balanced = torch.zeros_like(output)
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, [output], retain_graph=True)
            norm = self._running_norm(name, float(gradient.flatten(1).norm(dim=1).mean()))
            balanced += gradient * (self.weights[name] * share / (norm + 1e-12))
        return balanced

    def state_dict(self) -> dict[str, Any]:
        return {"norms": dict(self._norms)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._norms = dict(state["norms"])

    def _running_norm(self, name: str, norm: float) -> float:
        """Mean of the norms seen, the newest weighing most; corrected for its short start."""
        total, weight = self._norms.get(name, (0.0, 0.0))
        total, weight = total * self.decay + norm, weight * self.decay + 1.0
        self._norms[name] = (total, weight)
        return total / weight
