"""The compiled kernels as Python sees them; `step.h` documents the functions and structures mirrored here."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.native.build import best_target, find_or_build

SWITCH = "SLED_TTS_NATIVE"
_log = logging.getLogger(__name__)
_int32, _int64, _pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p


class ProductStruct(ctypes.Structure):
    _fields_ = (
        ("weight", _pointer), ("scale", _pointer), ("bias", _pointer), ("offset", _pointer),
        ("n", _int32), ("k", _int32), ("kind", _int32),
    )  # fmt: skip


class LayerStruct(ctypes.Structure):
    _fields_ = (
        ("qkv", ProductStruct), ("output", ProductStruct), ("gate_up", ProductStruct), ("down", ProductStruct),
        ("norm_before", _pointer), ("norm_after", _pointer),
    )  # fmt: skip


class BackboneStruct(ctypes.Structure):
    _fields_ = (
        ("layers", _int32), ("hidden", _int32), ("heads", _int32), ("head_dim", _int32), ("inner", _int32),
        ("reserved", _int32), ("layer", ctypes.POINTER(LayerStruct)), ("norm", _pointer), ("cosine", _pointer),
        ("sine", _pointer), ("epsilon", ctypes.c_float),
    )  # fmt: skip


class BlockStruct(ctypes.Structure):
    _fields_ = (("first", ProductStruct), ("second", ProductStruct))


class GeneratorStruct(ctypes.Structure):
    _fields_ = (
        ("width", _int32), ("depth", _int32), ("condition", ProductStruct), ("latent", ProductStruct),
        ("block", ctypes.POINTER(BlockStruct)),
    )  # fmt: skip


class CacheStruct(ctypes.Structure):
    _fields_ = (
        ("keys", _pointer), ("values", _pointer), ("row_stride", _int64), ("head_stride", _int64), ("is_bf16", _int32)
    )  # fmt: skip


class RowStruct(ctypes.Structure):
    _fields_ = (("row", _int32), ("start", _int32), ("count", _int32), ("past", _int32))


_FUNCTIONS = {
    "team_new": (_pointer, (ctypes.c_int,)),
    "team_free": (None, (_pointer,)),
    "team_threads": (ctypes.c_int, (_pointer,)),
    "product_panel": (ctypes.c_int, (ctypes.c_int,)),
    "product_bytes": (_int64, (ctypes.c_int, ctypes.c_int, ctypes.c_int)),
    "product_pack": (None, (_pointer, ctypes.c_int, ctypes.c_int, ctypes.c_int, _pointer, _pointer, _pointer)),
    "sled_backbone": (
        ctypes.c_int,
        (_pointer, _pointer, _pointer, _pointer, ctypes.c_int, ctypes.c_int, _pointer, ctypes.c_int, _pointer),
    ),
    "sled_generator": (
        ctypes.c_int,
        (_pointer, _pointer, _pointer, _pointer, _pointer, ctypes.c_int, _pointer),
    ),
    "sled_product": (ctypes.c_int, (_pointer, _pointer, _pointer, ctypes.c_int, _pointer)),
    "sled_large_pages": (None, (_pointer, _int64)),
}


@dataclass
class Team:
    """Threads for the kernels, as many as torch uses in the calling thread; made when first asked for.

    Calls take turns, so each network has a team of its own.
    """

    functions: ctypes.CDLL
    _held: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        weakref.finalize(self, _free, self.functions, self._held)

    @property
    def pointer(self) -> int:
        threads = torch.get_num_threads()
        if threads not in self._held:
            with self._lock:
                if threads not in self._held:
                    made = self.functions.team_new(threads)
                    if not made:
                        raise MemoryError("no memory for threads")
                    self._held[threads] = made
        return self._held[threads]


def _free(functions: ctypes.CDLL, held: dict[int, int]) -> None:
    for pointer in held.values():
        functions.team_free(pointer)


@dataclass(frozen=True)
class Native:
    """The loaded kernels and a team to run them."""

    functions: ctypes.CDLL
    path: Path
    team: Team

    def check(self, code: int) -> None:
        if code != 0:
            raise MemoryError("no memory for a step")


@dataclass(frozen=True)
class Loaded:
    """The library, or why there is none."""

    functions: ctypes.CDLL | None
    path: Path | None
    reason: str


@functools.cache
def loaded() -> Loaded:
    """Find, build if need be, and load the kernels, once."""
    try:
        target = best_target()
        path = find_or_build(target)
        functions = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(functions, name)
            function.restype, function.argtypes = result, arguments
    except (ModelError, OSError, AttributeError) as error:
        _log.info("no compiled kernels: %s", error)
        return Loaded(None, None, str(error))
    return Loaded(functions, path, target.name)


def load() -> Native | None:
    """The kernels with a new team, or None where there are none or `SLED_TTS_NATIVE` is `off`.

    With `require` there that is an error instead: ModelError with the reason.
    """
    wish = os.environ.get(SWITCH, "auto")
    if wish not in ("auto", "off", "require"):
        raise ModelError(f"{SWITCH} must be auto, off or require, not {wish!r}", param=SWITCH)
    if wish == "off":
        return None
    found = loaded()
    if found.functions is None or found.path is None:
        if wish == "require":
            raise ModelError(f"compiled kernels are required: {found.reason}", param=SWITCH)
        return None
    return Native(found.functions, found.path, Team(found.functions))


def describe() -> str:
    """Which path a CPU's steps take, for people."""
    if os.environ.get(SWITCH) == "off":
        return f"torch's operators ({SWITCH}=off)"
    found = loaded()
    return f"compiled ({found.reason})" if found.functions is not None else f"torch's operators: {found.reason}"


def address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
