"""A checkpoint's melody: the contour of each utterance, and its sound at that pitch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sled_tts.model.errors import CheckpointError
from sled_tts.model.melody.contour import ContourNet, ContourStream, ContourWeights
from sled_tts.model.melody.dynamics import Dynamics, DynamicsStream
from sled_tts.model.melody.expanding import Expansion, expansion_from
from sled_tts.model.melody.register import Register, nearest_pitch
from sled_tts.model.melody.shifting import PitchShifter

Float32 = npt.NDArray[np.float32]

FILE = "melody.safetensors"
_KEYS = frozenset({"depth", "noise_scale", "expansion"})


@dataclass(frozen=True)
class Melody:
    """`depth`: what a contour's movement is multiplied with. `noise_scale`: how far utterances differ in what their
    latents leave open. `pitches_hz`: the constant pitches at which the network speaks; a voice's is the nearest.
    `expansion`: how the codec's noise is turned down after that; None leaves it."""

    weights: ContourWeights = field(repr=False)
    pitches_hz: tuple[float, ...]
    depth: float = 1.0
    noise_scale: float = 1.0
    expansion: Expansion | None = None

    def begin(
        self, register: Register, seed: int, *, rate: int, hop: int, skip: int = 0, dynamics: Dynamics | None = None
    ) -> Melodist:
        """For one utterance at `rate` Hz with `hop` samples a frame; its first `skip` frames nobody hears. `dynamics`:
        of its voice, instead of the checkpoint's expansion."""
        draw = np.random.default_rng(seed).standard_normal(self.weights.noise_channels) * self.noise_scale
        base = register.locked_hz or nearest_pitch(register.hz, self.pitches_hz)
        contour = ContourStream(self.weights, draw.astype(np.float32))
        shifter = PitchShifter(rate / base, hop, rate)
        if dynamics is None and self.expansion is not None:
            dynamics = self.expansion.dynamics
        loudness = None if dynamics is None else DynamicsStream(dynamics, hop)
        return Melodist(contour, shifter, loudness, register.hz / base, register.spread * self.depth, hop, skip)

    def behind(self, rate: int, hop: int) -> set[int]:
        """How many frames its melodists are `behind`, at the pitches it starts from."""
        return {self.begin(Register(pitch, 0.0, pitch), 0, rate=rate, hop=hop).behind for pitch in self.pitches_hz}


class Melodist:
    """One utterance on its way out, the same in any chunks; some frames behind what has arrived."""

    def __init__(
        self,
        contour: ContourStream,
        shifter: PitchShifter,
        loudness: DynamicsStream | None,
        median: float,
        octaves: float,
        hop: int,
        skip: int,
    ) -> None:
        self._contour, self._shifter, self._loudness = contour, shifter, loudness
        self._median, self._octaves = median, octaves
        self._hop, self._skip = hop, skip

    @property
    def behind(self) -> int:
        """Frames that are not finished when they have arrived, until the last has."""
        return (self._shifter.delay + (0 if self._loudness is None else self._loudness.delay)) // self._hop

    def push(self, wave: Float32, latents: Float32, final: bool) -> Float32:
        """`wave [S * hop]` decoded from codec latents `[S, D]`; returns what is finished, all after the `final` call.
        Frames that are skipped come back as they are."""
        skipped = min(self._skip, len(latents))
        self._skip -= skipped
        ratios = [self._median * 2.0 ** (self._octaves * self._contour.step(frame)) for frame in latents[skipped:]]
        cut = skipped * self._hop
        out = self._shifter.push(wave[cut:], ratios, final)
        if self._loudness is not None:
            out = self._loudness.push(out, final)
        return np.concatenate([wave[:cut], out]) if skipped else out


def read_melody(
    entry: Mapping[str, Any] | None, folder: Path | None, latent_dim: int, pitches_hz: tuple[float, ...]
) -> Melody | None:
    """The `melody` of `sled_tts.json`, with its file beside it; None without one.

    Raises CheckpointError that names the key or the file.
    """
    if entry is None:
        return None
    if not isinstance(entry, Mapping):
        raise CheckpointError(f"sled_tts.json: melody must be a table, got {entry!r}", param="melody")
    if wrong := sorted(set(entry) - _KEYS):
        raise CheckpointError(f"sled_tts.json: melody: unknown key {wrong[0]}", param=f"melody.{wrong[0]}")
    try:
        depth, noise_scale = float(entry.get("depth", 1.0)), float(entry.get("noise_scale", 1.0))
        expansion = expansion_from(entry["expansion"]) if "expansion" in entry else None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"sled_tts.json: melody: {error}", param="melody") from None
    if not (0.0 <= depth <= 4.0 and 0.0 <= noise_scale <= 4.0):
        raise CheckpointError("sled_tts.json: melody: depth and noise_scale must be in [0, 4]", param="melody")
    if not pitches_hz:
        raise CheckpointError("sled_tts.json: a melody needs pitches_hz to start from", param="melody")
    if folder is None:
        raise CheckpointError("sled_tts.json: melody: there is no file beside it", param="melody")
    try:
        net = load_contour(load_file(folder / FILE))
    except Exception as error:
        raise CheckpointError(f"{folder / FILE}: {error}", param="melody") from error
    if len(net.mean) != latent_dim:
        raise CheckpointError(f"{FILE} is for {len(net.mean)} dimensions, not {latent_dim}", param="melody")
    return Melody(ContourWeights.of(net), pitches_hz, depth, noise_scale, expansion)


def load_contour(state: Mapping[str, Tensor]) -> ContourNet:
    """The network that a state dict is of. Raises KeyError or RuntimeError for anything else."""
    width, given = state["enter.weight"].shape
    latent_dim = len(state["mean"])
    net = ContourNet(latent_dim, width, given - latent_dim)
    net.load_state_dict({name: value.float() for name, value in state.items()})
    return net.eval()


def write_melody(net: ContourNet, folder: Path) -> None:
    """Write the weights beside `sled_tts.json`, in half precision but for mean and standard deviation."""
    kept = {
        name: value.detach().to(torch.float32 if name in ("mean", "std") else torch.float16).contiguous()
        for name, value in net.state_dict().items()
    }
    save_file(kept, folder / FILE)
