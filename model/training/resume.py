"""A training run on disk: everything a killed run needs to end as it would have ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sled_tts.model.errors import ModelError


@dataclass
class RunState:
    """What changes from step to step. Randomness is not among it: it is drawn anew from the seed and the step."""

    step: int
    model: nn.Module
    head: nn.Module
    optimiser: torch.optim.Optimizer

    def save(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Write atomically, with the settings the run was started with. Raises ModelError when that fails."""
        content = {
            "step": self.step,
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "settings": dict(settings),
        }
        write_atomically(path, lambda partial: torch.save(content, partial))

    def restore(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Read what `save` wrote. Raises ModelError when it is damaged or belongs to a run with other settings."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            found = content["settings"]
        except Exception as error:
            raise ModelError(f"{path} is no saved training run: {error}", param="resume") from error
        changed = sorted(k for k in {*found, *settings} if found.get(k) != settings.get(k))
        if changed:
            names = ", ".join(f"{k} ({found.get(k)!r} then, {settings.get(k)!r} now)" for k in changed)
            raise ModelError(f"{path} was written with other settings: {names}", param=changed[0])
        self.step = content["step"]
        self.model.load_state_dict(content["model"])
        self.head.load_state_dict(content["head"])
        self.optimiser.load_state_dict(content["optimiser"])


def save_checkpoint(model: nn.Module, path: Path) -> None:
    """The network's tensors as safetensors. Raises ModelError when they cannot be written."""
    tensors: dict[str, Tensor] = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    write_atomically(path, lambda partial: save_file(tensors, partial))


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the old file, flush, then swap: an interruption or a full disk leaves the old file whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except Exception as error:
        partial.unlink(missing_ok=True)
        raise ModelError(f"could not write {path}: {error}; what was there is unchanged") from error
