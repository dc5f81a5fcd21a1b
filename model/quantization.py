"""Matrix products for inference on a CPU: weights packed once, in fp32, bf16 or int8.

A step multiplies a handful of rows with every weight there is, so its time is the time to read the weights. The
library's default product reads them badly at such shapes; oneDNN's packed layout is two to three times faster at the
same precision, and bf16 and int8 have fewer bytes to read.

int8 is symmetric a channel (row of the weight) and, for activations, a token: each row of the input is scaled by its
own largest value, so that company cannot change it. Sums of integers are exact, hence the same bits for any number
of rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sled_tts.model.errors import ConfigError
from sled_tts.model.native.library import Native
from sled_tts.model.native.product import NativeProduct

Kernel = Callable[[Tensor], Tensor]

_CHANNEL_MAX = 127
# Rows that the packed layouts are chosen for; any number works.
_TYPICAL_ROWS = 4


class Precision(StrEnum):
    """How weights are held. Activations, norms, attention and the stop head stay in fp32 on a CPU."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


class Projection(nn.Linear):
    """A linear layer whose product a packed kernel may take over; parameters and state dict are nn.Linear's."""

    kernel: Kernel | None = None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) if self.kernel is None else self.kernel(x)

    def pack(self, precision: Precision, native: Native | None = None) -> None:
        bias = None if self.bias is None else self.bias.detach()
        self.kernel = pack(self.weight.detach(), bias, precision, native)

    def release(self) -> None:
        """Give the original weights' memory back: only the kernel is left, and saving is no longer possible."""
        self.weight = nn.Parameter(torch.empty_like(self.weight, device="meta"), requires_grad=False)


def pack(weight: Tensor, bias: Tensor | None, precision: Precision, native: Native | None = None) -> Kernel:
    """The product with `weight [N, K]` in fp32, and `bias [N]`, as `x [..., K] -> [..., N]`, fp32 in and out.

    By the compiled kernels where they are given, else by oneDNN. On another device than a CPU, or in another precision
    than fp32, weights stay as they are. Raises ConfigError when this processor has no kernel for `precision`.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return functools.partial(F.linear, weight=weight, bias=bias)
    compiled = None if native is None else NativeProduct.of(native, weight, bias, precision)
    if compiled is not None:
        return compiled
    if not available(precision):
        raise ConfigError(f"this processor has no kernels for precision {precision}", param="precision")
    if precision is Precision.INT8:
        return Int8Product.of(weight, bias)
    if not torch._C._has_mkldnn:
        return functools.partial(F.linear, weight=weight, bias=bias)
    return PackedProduct.of(weight, bias, torch.bfloat16 if precision is Precision.BF16 else torch.float32)


@functools.cache
def available(precision: Precision) -> bool:
    """Whether `precision` can be used on this processor, by trying it."""
    if precision is Precision.FP32:
        return True
    if not torch._C._has_mkldnn:
        return False
    probe = torch.eye(32)
    try:
        made = Int8Product.of(probe, None) if precision is Precision.INT8 else PackedProduct.of(probe, None, _BF16)
        return bool(torch.allclose(made(probe), probe, atol=0.02))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


_BF16 = torch.bfloat16


@dataclass(frozen=True)
class PackedProduct:
    """A floating point product in oneDNN's layout. A row's bits are the same for every row count from 2 on."""

    packed: Tensor
    bias: Tensor | None
    dtype: torch.dtype

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> PackedProduct:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), _TYPICAL_ROWS)
        return cls(packed, None if bias is None else bias.to(dtype), dtype)

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), self.packed, self.bias, "none", [], "")
        return out.to(x.dtype)


@dataclass(frozen=True)
class Int8Product:
    """An int8 product: unsigned activations around `middle`, one scale a token and one a channel."""

    packed: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor | None
    middle: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> Int8Product:
        levels, scale = quantise_channels(weight)
        packed = torch.ops.onednn.qlinear_prepack(levels, [_TYPICAL_ROWS, weight.shape[1]])
        return cls(packed, scale, torch.zeros(weight.shape[0], dtype=torch.long), bias, activation_middle())

    def __call__(self, x: Tensor) -> Tensor:
        flat = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        step = flat.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12).mul_(1 / (self.middle - 1))
        # Truncation after adding a half rounds: all levels are positive.
        levels = (flat / step).add_(self.middle + 0.5).to(torch.uint8)
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            levels, 1.0, self.middle, self.packed, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        out = out.mul_(step) if self.bias is None else torch.addcmul(self.bias, out, step)
        return out if x.dim() == 2 else out.view(*x.shape[:-1], -1)


def quantise_channels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """`weight [N, K]` to levels `[N, K]` int8 in -127..127 and scales `[N]`, so that `levels * scale ~ weight`."""
    scale = weight.abs().amax(dim=1).clamp(min=1e-12) / _CHANNEL_MAX
    return (weight / scale[:, None]).round().to(torch.int8), scale


@functools.cache
def activation_middle() -> int:
    """128 where products of 8 bits add up exactly, 64 where they would saturate at 16 bits (processors without
    VNNI), which leaves activations seven bits. Found by trying it."""
    size = 64
    packed = torch.ops.onednn.qlinear_prepack(torch.full((size, size), _CHANNEL_MAX, dtype=torch.int8), [4, size])
    most = torch.full((4, size), 255, dtype=torch.uint8)
    one, zero = torch.ones(size), torch.zeros(size, dtype=torch.long)
    made = torch.ops.onednn.qlinear_pointwise(
        most, 1.0, 128, packed, one, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return 128 if made[0, 0].item() == size * _CHANNEL_MAX * _CHANNEL_MAX else 64
