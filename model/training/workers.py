"""One training run over several processes, GPUs or nodes (started by `accelerate launch` or `torchrun`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    """This process among all: its `rank` of `size`, and its device.

    Losses are sums over what a process has, divided by what all have together, and gradients are summed: so any
    split of a batch over processes and accumulation steps gives the gradient of the whole batch.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    state: Any = None

    @classmethod
    def from_environment(cls, device: str | None = None) -> Workers:
        """Join the run that WORLD_SIZE and its companions describe; alone without them."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu")
        return cls(state.process_index, state.num_processes, state.device, state)

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and reports."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums of `values` over all processes."""
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(summed)
        return [float(value) for value in summed]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over all processes, in one exchange."""
        if self.size == 1:
            return
        held = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in held])
        torch.distributed.all_reduce(flat)
        for parameter, summed in zip(held, torch.split(flat, [p.numel() for p in held]), strict=True):
            parameter.grad = summed.view_as(parameter).clone()

    def wait(self) -> None:
        """Until every process is here."""
        if self.state is not None:
            self.state.wait_for_everyone()
