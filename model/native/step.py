"""A network's whole step in two calls of the kernels: the backbone over a ragged pack, the generator over its rows."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.generator import Modulation
from sled_tts.model.kv_cache import KVCache
from sled_tts.model.native.library import (
    BackboneStruct,
    BlockStruct,
    CacheStruct,
    GeneratorStruct,
    LayerStruct,
    Native,
    RowStruct,
    address,
)
from sled_tts.model.native.product import NativeProduct

if TYPE_CHECKING:
    from sled_tts.model.sled import Sled
    from sled_tts.model.stepping import PackedRow


@dataclass(frozen=True)
class NativeStep:
    """Everything the kernels need of one network; `kept` holds what the structures borrow."""

    native: Native
    backbone: BackboneStruct
    generator: GeneratorStruct
    kept: tuple[object, ...] = field(repr=False)

    @classmethod
    def of(cls, native: Native, sled: Sled) -> NativeStep | None:
        """None unless every product of a packed `sled` is one of the kernels'."""
        kept: list[object] = [sled.cos, sled.sin]

        def norm(weight: Tensor) -> int:
            kept.append(held := weight.detach().float().contiguous())
            return held.data_ptr()

        found: list[LayerStruct] = []
        for layer in sled.layers:
            attention, mlp = layer.self_attn, layer.mlp
            products = [attention.fused, attention.o_proj.kernel, mlp.fused, mlp.down_proj.kernel]
            structs = [product.struct for product in products if isinstance(product, NativeProduct)]
            if len(structs) < len(products):
                return None
            kept += products
            norms = [norm(n.weight) for n in (layer.input_layernorm, layer.post_attention_layernorm)]
            found.append(LayerStruct(*structs, *norms))
        makes = sled.generator.step_products()
        made = [product.struct for product in makes if isinstance(product, NativeProduct)]
        if len(made) < len(makes):
            return None
        blocks = (BlockStruct * sled.config.generator.depth)(
            *(BlockStruct(made[k], made[k + 1]) for k in range(2, len(made), 2))
        )
        layers = (LayerStruct * len(found))(*found)
        config = sled.config
        backbone = BackboneStruct(
            len(found), config.hidden_size, config.num_attention_heads, config.head_dim, config.intermediate_size, 0,
            layers, norm(sled.model.norm.weight), sled.cos.data_ptr(), sled.sin.data_ptr(), config.rms_norm_eps,
        )  # fmt: skip
        generator = GeneratorStruct(config.generator.width, config.generator.depth, made[0], made[1], blocks)
        return cls(native, backbone, generator, (*kept, *makes, layers, blocks))

    def hidden(
        self, embeds: Tensor, cache: KVCache, rows: Sequence[PackedRow], tapped: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Packed inputs `[N, H]`, padding included, to hidden states `[N, H]`; keys and values are appended.

        Second, what layer `tapped` read, `[N, H]`, if one was asked for.
        """
        x = embeds.float().contiguous().clone()
        tap = None if tapped is None else torch.empty_like(x)
        placed = (RowStruct * len(rows))(*(RowStruct(row.row, row.start, row.count, row.past) for row in rows))
        native = self.native
        native.check(
            native.functions.sled_backbone(
                native.team.pointer, ctypes.byref(self.backbone), cache_structs(cache), placed, len(rows), x.shape[0],
                x.data_ptr(), -1 if tapped is None else tapped, address(tap),
            )
        )  # fmt: skip
        return x, tap

    def latents(self, z: Tensor, modulation: Modulation, places: Sequence[int]) -> Tensor:
        """Conditions `[B, H]` to latents `[B, D]`; row r is modulated by line `places[r]` of the modulation, whose
        leading axes count as one."""
        z = z.contiguous()
        parts = [part.contiguous() for part in (*modulation.blocks, modulation.final)]
        at = (ctypes.c_int64 * len(places))(*places)
        pointers = (ctypes.c_void_p * len(parts))(*(part.data_ptr() for part in parts))
        out = torch.empty(z.shape[0], self.generator.latent.n)
        native = self.native
        native.check(
            native.functions.sled_generator(
                native.team.pointer,
                ctypes.byref(self.generator),
                z.data_ptr(),
                pointers,
                at,
                z.shape[0],
                out.data_ptr(),
            )
        )
        return out


def cache_structs(cache: KVCache) -> ctypes.Array[CacheStruct]:
    """One structure a layer. Raises ModelError for keys and values that the kernels do not know."""
    first = cache.keys[0]
    if first.dtype not in (torch.float32, torch.bfloat16) or not first.is_contiguous():
        raise ModelError(f"compiled steps take contiguous keys and values in fp32 or bf16, not {first.dtype}")
    rows, heads = first.stride(0), first.stride(1)
    is_bf16 = int(first.dtype == torch.bfloat16)
    return (CacheStruct * len(cache.keys))(
        *(
            CacheStruct(keys.data_ptr(), values.data_ptr(), rows, heads, is_bf16)
            for keys, values in zip(cache.keys, cache.values, strict=True)
        )
    )
