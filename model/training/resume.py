"""A training run on disk: everything a killed run needs to end as it would have ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError


class Resumable(Protocol):
    """What can say its state and take it up again: modules, optimisers, codebooks, balancers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


@dataclass
class RunState:
    """What changes from step to step, by name. Randomness is not among it: it is drawn anew from the seed and the
    step (see `step_randomness`)."""

    step: int
    parts: Mapping[str, Resumable]

    def save(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Write atomically, with the settings the run was started with. Raises ModelError when that fails."""
        content = {"step": self.step, "settings": dict(settings)}
        content |= {name: part.state_dict() for name, part in self.parts.items()}
        write_atomically(path, lambda partial: torch.save(content, partial))

    def restore(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Read what `save` wrote. Raises ModelError when it is damaged or belongs to a run with other settings."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            found = content["settings"]
        except Exception as error:
            raise ModelError(f"{path} is no saved training run: {error}", param="resume") from error
        refuse_changes(path, found, settings)
        self.step = content["step"]
        for name, part in self.parts.items():
            part.load_state_dict(content[name])


def refuse_changes(path: Path, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises ModelError that names the settings which are not those that `path` was begun with."""
    changed = sorted(k for k in {*found, *settings} if found.get(k) != settings.get(k))
    if changed:
        names = ", ".join(f"{k} ({found.get(k)!r} then, {settings.get(k)!r} now)" for k in changed)
        raise ModelError(f"{path} was written with other settings: {names}; remove it to start anew", param=changed[0])


def step_randomness(seed: int, step: int) -> np.random.Generator:
    """A generator for one step; torch's own is seeded from it too. So a resumed run draws what it would have drawn."""
    rng = np.random.default_rng([seed, step])
    torch.manual_seed(int(rng.integers(2**62)))
    return rng


def save_checkpoint(model: nn.Module, path: Path) -> None:
    """The network's tensors as safetensors. Raises ModelError when they cannot be written."""
    tensors: dict[str, Tensor] = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    write_atomically(path, lambda partial: save_file(tensors, partial))


def save_codec(codec: Codec, folder: Path) -> None:
    """The codec's folder, file by file beside the old ones, then swapped. Raises ModelError when that fails."""
    partial = folder.with_name(folder.name + ".saving")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        codec.save(partial)
        folder.mkdir(parents=True, exist_ok=True)
        for file in partial.iterdir():
            flush(file)
        for file in partial.iterdir():
            file.replace(folder / file.name)
    except Exception as error:
        raise ModelError(f"could not write {folder}: {error}; what was there is unchanged") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def flush(file: Path) -> None:
    """Until it is on the disk, so that a rename never shows a file that is not; for those to read who usually may,
    which safetensors does not let them."""
    with file.open("rb+") as written:
        os.fsync(written.fileno())
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)


def write_atomically(path: Path, write: Callable[[Path], object], *, shared: bool = False) -> None:
    """Write beside the old file, flush, then swap: an interruption or a full disk leaves the old file whole.

    `shared`: other processes may be writing the same; each does it under a name of its own.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial" if shared else f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        flush(partial)
        partial.replace(path)
    except Exception as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"could not write {path}: {error}; what was there is unchanged") from error
