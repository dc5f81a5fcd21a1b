"""Which kernels a step runs on: Triton's where they work, plain torch elsewhere. Found out by trying them."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from sled_tts.model.errors import ConfigError
from sled_tts.model.kernels import plain
from sled_tts.model.layers import rotary_table

log = logging.getLogger(__name__)

# From here on GPUs convert e4m3 themselves; Triton compiles it for no older ones.
E4M3_CAPABILITY = (8, 9)


class KernelChoice(StrEnum):
    """`auto` takes Triton on a GPU if it works there."""

    AUTO = "auto"
    TRITON = "triton"
    TORCH = "torch"


@dataclass(frozen=True)
class Kernels:
    """The functions of `plain`, by one implementation. `live_only`: attention reads no position beyond a length."""

    name: str
    live_only: bool
    attend: Callable[..., Tensor]
    append: Callable[..., Tensor]
    add_norm: Callable[..., tuple[Tensor, Tensor]]
    swiglu: Callable[[Tensor], Tensor]
    modulate: Callable[..., tuple[Tensor, Tensor]]


PLAIN = Kernels("torch", False, plain.attend, plain.append, plain.add_norm, plain.swiglu, plain.modulate)


def triton_kernels() -> Kernels:
    """Raises ImportError where Triton is not installed."""
    attention: Any = importlib.import_module("sled_tts.model.kernels.attention")
    fused: Any = importlib.import_module("sled_tts.model.kernels.fused")
    return Kernels(
        "triton", True, attention.attend, fused.append, fused.add_norm, fused.swiglu, fused.modulate
    )  # fmt: skip


def choose_kernels(
    device: torch.device | str, dtype: torch.dtype, wanted: KernelChoice = KernelChoice.AUTO, kv8: bool = False
) -> Kernels:
    """The kernels for activations of `dtype` on `device`, 8-bit keys and values included with `kv8`.

    A log line says why Triton's were not taken, such as a GPU too old for their 8-bit keys and values; plain torch
    has no such limit. Raises ConfigError when they were asked for and do not work.
    """
    device = torch.device(device)
    if wanted is KernelChoice.TORCH or (wanted is KernelChoice.AUTO and device.type != "cuda"):
        return PLAIN
    try:
        if kv8 and device.type == "cuda":
            _require_e4m3(torch.cuda.get_device_capability(device))
        made = triton_kernels()
        _try(made, device, dtype, kv8)
    except Exception as error:
        if wanted is KernelChoice.TRITON:
            raise ConfigError(f"Triton's kernels do not work on {device}: {error}", param="kernels") from error
        log.warning("Triton's kernels do not work on %s, plain torch takes over: %s", device, error)
        return PLAIN
    return made


def eight_bits_missing(kernels: str, capability: tuple[int, int] | None) -> str | None:
    """Why `kernels` cannot hold keys and values in 8 bits on a GPU of this compute capability (None: no GPU), None
    where they can."""
    if kernels != "triton" or capability is None or capability >= E4M3_CAPABILITY:
        return None
    have, need = (".".join(map(str, pair)) for pair in (capability, E4M3_CAPABILITY))
    return f"Triton's kernels need compute capability {need} for e4m3, this GPU has {have}"


def _require_e4m3(capability: tuple[int, int]) -> None:
    if (reason := eight_bits_missing("triton", capability)) is not None:
        raise RuntimeError(reason)


@torch.inference_mode()
def _try(kernels: Kernels, device: torch.device, dtype: torch.dtype, kv8: bool) -> None:
    """Raise RuntimeError unless a small case of every kernel is what plain torch makes of it."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng).to(device, dtype)

    columns, heads, dim, capacity = 3, 2, 16, 80
    rows, positions = torch.tensor([3, 0, 1], device=device), torch.tensor([79, 0, 40], device=device)
    cos, sin = rotary_table(capacity, dim, 10_000.0)
    cos, sin = cos.to(device), sin.to(device)
    joint, x, delta = draw(columns, 3 * heads, dim), draw(columns, 32), draw(columns, 32)
    table, index = draw(4, 8, 96), torch.tensor([0, 7, 3], device=device)
    prepared = draw(2, 4, heads, capacity, dim)
    results: list[dict[str, Tensor]] = []
    for made in (kernels, PLAIN):
        held = torch.float8_e4m3fn if kv8 else dtype
        keys, values = (part.to(held) for part in prepared.unbind(0))
        scales = tuple(torch.ones(4, heads, capacity, device=device) for _ in range(2)) if kv8 else None
        q = made.append(joint, cos, sin, rows, positions, keys, values, scales)
        attended = made.attend(q, keys, values, rows, positions + 1, scales)
        added, normed = made.add_norm(x, delta, x[0].contiguous(), 1e-6)
        turned = made.modulate(x, (delta, table), table, rows, index, 1e-6)
        results.append({
            "append": q, "attend": attended, "add": added, "norm": normed, "swiglu": made.swiglu(x),
            "gate": turned[0], "modulate": turned[1],
        })  # fmt: skip
    tolerance = 1e-4 if dtype == torch.float32 and not kv8 else 6e-2
    for name, theirs in results[1].items():
        ours = results[0][name]
        if not torch.allclose(ours.float(), theirs.float(), atol=tolerance, rtol=tolerance):
            worst = float((ours.float() - theirs.float()).abs().max())
            raise RuntimeError(f"{name} is off by {worst:g}")
