"""One network of several that were trained on from the same one: the mean of their weights, or of a run's own steps.

Networks that left a common ancestor with other rates, metrics or data lie close enough for that (docs/training.md, run
*mean*): the mean makes fewer of each one's own errors and costs nothing when it speaks. Networks that began apart
average to noise.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sled_tts.model.errors import ModelError

_Network = TypeVar("_Network", bound=nn.Module)

_WEIGHTS, _ABOUT = "model.safetensors", "sled_tts.json"
# What a network must share with another so that the same number means the same in both.
_SHARED = ("config.json", "vocab.json", "merges.txt", "codec/config.json", "codec/model.safetensors")
_SHARED_ABOUT = ("latent_mean", "latent_std")


class MovingAverage(Generic[_Network]):
    """An exponential moving average of a network's weights: of its last `1 / (1 - decay)` steps, fewer in the
    beginning."""

    def __init__(self, model: _Network, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model).requires_grad_(False), decay

    @torch.no_grad()
    def update(self, model: _Network, step: int) -> None:
        """Take up the weights after `step` steps."""
        decay = min(self.decay, step / (step + 50))
        for own, new in zip(self.model.parameters(), model.parameters(), strict=True):
            own.lerp_(new, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.model.load_state_dict(state_dict)


def average_checkpoints(folders: Sequence[Path], out: Path, weights: Sequence[float] = ()) -> None:
    """Write the checkpoint `out`: the mean of the networks in `folders`, with `weights` if there are any, and all the
    rest from the first. What depends on a network alone and has to be found again, `alignment`, is left out.

    Raises ModelError for fewer than two, for weights that are not positive or not as many, for an `out` that is there,
    and for checkpoints that differ in configuration, tokenizer, codec or normalisation.
    """
    if len(folders) < 2:
        raise ModelError("a mean takes two checkpoints or more", param="models")
    shares = list(weights) or [1.0] * len(folders)
    if len(shares) != len(folders) or min(shares) <= 0:
        raise ModelError(f"{len(folders)} checkpoints take as many weights above 0, got {shares}", param="weight")
    if out.exists():
        raise ModelError(f"{out} is there already", param="out")
    for other in folders[1:]:
        _require_same(folders[0], other)
    first = load_file(folders[0] / _WEIGHTS)
    total = {name: tensor.double() * (shares[0] / sum(shares)) for name, tensor in first.items()}
    for folder, share in zip(folders[1:], shares[1:], strict=True):
        state = load_file(folder / _WEIGHTS)
        if state.keys() != total.keys():
            raise ModelError(f"{folders[0]} and {folder} have different tensors", param="models")
        for name, tensor in state.items():
            total[name] += tensor.double() * (share / sum(shares))
    shutil.copytree(folders[0], out, ignore=lambda at, _: {_WEIGHTS} if Path(at) == folders[0] else set())
    save_file({name: total[name].to(tensor.dtype).contiguous() for name, tensor in first.items()}, out / _WEIGHTS)
    about = {name: value for name, value in _about(out).items() if name != "alignment"}
    (out / _ABOUT).write_text(json.dumps(about) + "\n", encoding="utf-8")


def _require_same(one: Path, other: Path) -> None:
    for name in _SHARED:
        a, b = one / name, other / name
        if a.is_file() != b.is_file() or (a.is_file() and a.read_bytes() != b.read_bytes()):
            raise ModelError(f"{one} and {other} differ in {name}", param="models")
    for key in _SHARED_ABOUT:
        if _about(one).get(key) != _about(other).get(key):
            raise ModelError(f"{one} and {other} differ in {key} of {_ABOUT}", param="models")


def _about(folder: Path) -> dict[str, object]:
    path = folder / _ABOUT
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
