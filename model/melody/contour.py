"""What pitch the frames of an utterance have, told by their latents: a small recurrent network.

It sees no text: how long, how loud and how clear its sounds are says much of how a sentence was read. What they leave
open is drawn once an utterance, so that two takes differ as wholes and not from frame to frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Float32 = npt.NDArray[np.float32]


class ContourNet(nn.Module):
    """Latents to pitch, frame by frame, without looking ahead; for training. `ContourStream` does the same live."""

    mean: Tensor
    std: Tensor

    def __init__(self, latent_dim: int, width: int = 96, noise_channels: int = 8) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("std", torch.ones(latent_dim))
        self.enter = nn.Linear(latent_dim + noise_channels, width)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.middle = nn.Linear(width, width)
        self.leave = nn.Linear(width, 1)
        self.noise_channels = noise_channels

    def forward(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Codec latents `[B, S, D]` and noise `[B, C]` to pitches `[B, S]`, in standard deviations of the speaker's
        logarithmic pitch about its median."""
        x = (latents - self.mean) / self.std
        x = torch.cat([x, noise[:, None].expand(-1, x.shape[1], -1)], dim=-1)
        held, _ = self.memory(F.silu(self.enter(x)))
        out: Tensor = self.leave(F.silu(self.middle(held)))
        return out[..., 0]


@dataclass(frozen=True)
class ContourWeights:
    """A `ContourNet`'s weights as NumPy arrays: a frame of one stream is too little work for torch."""

    mean: Float32 = field(repr=False)
    std: Float32 = field(repr=False)
    enter: tuple[Float32, Float32] = field(repr=False)
    inward: tuple[Float32, Float32] = field(repr=False)
    onward: tuple[Float32, Float32] = field(repr=False)
    middle: tuple[Float32, Float32] = field(repr=False)
    leave: tuple[Float32, Float32] = field(repr=False)

    @property
    def noise_channels(self) -> int:
        return int(self.enter[0].shape[1] - len(self.mean))

    @classmethod
    def of(cls, net: ContourNet) -> ContourWeights:
        held = {name: np.ascontiguousarray(value.float().cpu().numpy()) for name, value in net.state_dict().items()}

        def pair(weight: str, bias: str) -> tuple[Float32, Float32]:
            return held[weight], held[bias]

        return cls(
            held["mean"],
            held["std"],
            pair("enter.weight", "enter.bias"),
            pair("memory.weight_ih_l0", "memory.bias_ih_l0"),
            pair("memory.weight_hh_l0", "memory.bias_hh_l0"),
            pair("middle.weight", "middle.bias"),
            pair("leave.weight", "leave.bias"),
        )


class ContourStream:
    """One utterance's contour, frame by frame: the same numbers however the frames arrive."""

    def __init__(self, weights: ContourWeights, noise: Float32) -> None:
        self._weights = weights
        matrix, bias = weights.enter
        known = len(weights.mean)
        self._matrix = np.ascontiguousarray(matrix[:, :known] / weights.std)
        self._bias = bias + matrix[:, known:] @ noise - self._matrix @ weights.mean
        self._held = np.zeros(matrix.shape[0], dtype=np.float32)

    def step(self, latent: Float32) -> float:
        """The pitch of the next frame `[D]`, as `ContourNet.forward`."""
        weights, held = self._weights, self._held
        entered = _silu(self._matrix @ latent + self._bias)
        given = weights.inward[0] @ entered + weights.inward[1]
        kept = weights.onward[0] @ held + weights.onward[1]
        width = len(held)
        gates = _sigmoid(given[: 2 * width] + kept[: 2 * width])
        new = np.tanh(given[2 * width :] + gates[:width] * kept[2 * width :])
        self._held = held = new + gates[width:] * (held - new)
        middle = _silu(weights.middle[0] @ held + weights.middle[1])
        return float(weights.leave[0][0] @ middle + weights.leave[1][0])


def _sigmoid(x: Float32) -> Float32:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x), dtype=np.float32)


def _silu(x: Float32) -> Float32:
    return x * _sigmoid(x)
