"""A weight packed for the kernels, and its product with some rows."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.native.library import Native, ProductStruct, address

KINDS = {"fp32": 0, "bf16": 1, "int8": 2}
_LARGE = 2**21


@dataclass(frozen=True)
class NativeProduct:
    """The product with a weight `[n, k]`: `x [..., k] -> [..., n]`, fp32 in and out, a row's bits whatever its company.

    `struct` is what other kernels take; it borrows the tensors held here.
    """

    native: Native
    packed: Tensor
    scale: Tensor | None
    offset: Tensor | None
    bias: Tensor | None
    struct: ProductStruct = field(repr=False)

    @classmethod
    def of(cls, native: Native, weight: Tensor, bias: Tensor | None, precision: str) -> NativeProduct | None:
        """None when the kernels cannot hold `precision` on this processor."""
        functions, kind = native.functions, KINDS[precision]
        n, k = weight.shape
        size = functions.product_bytes(n, k, kind)
        if size == 0:
            return None
        panel = functions.product_panel(kind)
        wide = -(-n // panel) * panel
        packed = torch.empty(size, dtype=torch.uint8)
        if size >= _LARGE:
            functions.sled_large_pages(packed.data_ptr(), size)
        scale = offset = None
        if precision == "int8":
            scale, offset = torch.zeros(wide), torch.zeros(wide, dtype=torch.int32)
        source = weight.detach().float().contiguous()
        functions.product_pack(source.data_ptr(), n, k, kind, packed.data_ptr(), address(scale), address(offset))
        held = None
        if bias is not None:
            held = torch.zeros(wide)
            held[:n] = bias.detach()
        struct = ProductStruct(packed.data_ptr(), address(scale), address(held), address(offset), n, k, kind)
        return cls(native, packed, scale, offset, held, struct)

    def __call__(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":  # its address would mean nothing here
            raise ModelError(f"the compiled kernels multiply on a CPU, not on {x.device}")
        flat = x.reshape(-1, self.struct.k).float().contiguous()
        out = torch.empty(flat.shape[0], self.struct.n)
        native = self.native
        native.check(
            native.functions.sled_product(
                native.team.pointer, ctypes.byref(self.struct), flat.data_ptr(), flat.shape[0], out.data_ptr()
            )
        )
        return out.view(*x.shape[:-1], self.struct.n)
