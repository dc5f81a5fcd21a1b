"""Voices that come with a checkpoint: speech, and what it says, for the network to go on from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sled_tts.model.errors import CheckpointError
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.register import Register

_KEYS = frozenset({"id", "name", "text", "file"})
_OPTIONAL = frozenset({"description", "register"})


@dataclass(frozen=True)
class BuiltInVoice:
    """`latents [S, D]` are the codec's, fp32; `text` is what they say; `register` is where its melody lies, `dynamics`
    what becomes of its sound after that, instead of the checkpoint's expansion."""

    id: str
    name: str
    text: str
    latents: Tensor = field(repr=False)
    description: str = ""
    register: Register | None = None
    dynamics: Dynamics | None = field(default=None, repr=False)


def read_voices(entries: Sequence[Mapping[str, Any]], folder: Path | None, latent_dim: int) -> tuple[BuiltInVoice, ...]:
    """The `voices` of `sled_tts.json`; each `file`, a safetensors file beside it, holds `latents [S, D]`
    and may hold a voice's dynamics.

    Raises CheckpointError that names the key or the file.
    """
    voices = tuple(_read_voice(entry, folder, latent_dim) for entry in entries)
    if len({voice.id for voice in voices}) != len(voices):
        raise CheckpointError("sled_tts.json: two voices have the same id", param="voices.id")
    return voices


def write_voice(voice: BuiltInVoice, folder: Path) -> dict[str, Any]:
    """Write latents, in half precision, and dynamics into `folder`, and return the entry for `voices`."""
    name = f"voice-{voice.id}.safetensors"
    arrays = {} if voice.dynamics is None else voice.dynamics.arrays()
    kept = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    save_file({"latents": voice.latents.to(torch.float16).contiguous(), **kept}, folder / name)
    entry = {"id": voice.id, "name": voice.name, "text": voice.text, "file": name, "description": voice.description}
    return entry if voice.register is None else {**entry, "register": voice.register.to_dict()}


def _read_voice(entry: Mapping[str, Any], folder: Path | None, latent_dim: int) -> BuiltInVoice:
    wrong = sorted(set(entry) - _KEYS - _OPTIONAL) + sorted(_KEYS - set(entry))
    if wrong:
        raise CheckpointError(f"sled_tts.json: voices: unknown or missing key {wrong[0]}", param=f"voices.{wrong[0]}")
    name = str(entry["file"])
    if folder is None or Path(name).name != name:
        raise CheckpointError(f"sled_tts.json: voices: {name!r} is no file beside it", param="voices.file")
    try:
        held = load_file(folder / name)
        latents = held["latents"].float()
        dynamics = Dynamics.of({key: value.float().numpy() for key, value in held.items() if key != "latents"})
    except Exception as error:
        raise CheckpointError(f"{folder / name}: {error}", param="voices.file") from error
    if latents.ndim != 2 or latents.shape[0] == 0 or latents.shape[1] != latent_dim:
        raise CheckpointError(f"{name}: latents {list(latents.shape)}, expected [S, {latent_dim}]", param="voices.file")
    try:
        register = None if (given := entry.get("register")) is None else Register.from_dict(given)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"sled_tts.json: voices: {error}", param="voices.register") from None
    described = entry.get("description", "")
    return BuiltInVoice(entry["id"], entry["name"], entry["text"], latents, described, register, dynamics)


def codec_fingerprint(codec: nn.Module) -> str:
    """16 hexadecimal digits that differ between codecs of different weights, wherever they run."""
    return _fingerprint(codec.state_dict())


def network_fingerprint(sled: nn.Module) -> str:
    """The same for networks, by their vectors: no training leaves those as they were, and no packing changes them."""
    return _fingerprint({name: tensor for name, tensor in sled.state_dict().items() if tensor.ndim == 1})


def _fingerprint(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
