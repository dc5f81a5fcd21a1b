"""Files of a voice: arrays read with care, bytes written so that they are there after a loss of power."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from sled_tts.server.engine.request import Float32
from sled_tts.server.voices.entry import CorruptEntryError

_LEFTOVER_AGE_S = 3600.0


def load_arrays(file: Path, dimensions: int) -> dict[str, Float32]:
    """Every array of a file. CorruptEntryError for anything but finite fp32 of so many dimensions."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            arrays = {name: np.asarray(tensors.get_tensor(name)) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CorruptEntryError(f"{file.name}: {error}") from None
    for name, values in arrays.items():
        if values.dtype != np.float32 or values.ndim != dimensions or not values.size or not np.isfinite(values).all():
            raise CorruptEntryError(f"{file.name}: {name} is {values.dtype} {values.shape}")
    return arrays


def load_array(file: Path, key: str, dimensions: int) -> Float32:
    arrays = load_arrays(file, dimensions)
    if key not in arrays:
        raise CorruptEntryError(f"{file.name} holds no {key}")
    return arrays[key]


def write_through(file: Path, data: bytes) -> None:
    with file.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in it survive a loss of power, where folders can be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what a process that died in mid-write has left."""
    for leftover in folder.glob(".*.tmp"):
        if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE_S:
            shutil.rmtree(leftover, ignore_errors=True)
