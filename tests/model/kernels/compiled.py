"""Compile every kernel, in the variants that are used, to machine code of GPUs that are not here; prints what came."""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sled_tts.model.kernels import attention, fused

INTEGERS = {"row_at": "*i64", "length_at": "*i64", "position_at": "*i64", "slot_at": "*i64", "index_at": "*i64"}
FLOATS = dict.fromkeys(("part_at", "peak_at", "total_at", "k_scale_at", "v_scale_at", "cos_at", "sin_at"), "*fp32")
NUMBERS = {"factor": "fp32", "eps": "fp32"} | dict.fromkeys(("k_row", "k_head", "s_row", "s_head", "block"), "i32")
PUBLISHED = {
    "KV_HEADS": 16, "HEADS": 16, "GROUP": 1, "GROUP_PAD": 1, "DIM": 64, "DIM_PAD": 64, "HALF_PAD": 32, "BLOCK": 64,
    "SPLITS": 16, "SCALED": False, "SIZE": 1024, "PAD": 1024, "ADD": True, "GATES": 3, "PARTS": 3,
}  # fmt: skip


def compile_for(capability: int, kernel: Any, held: str = "*bf16", warps: int = 4, **changes: Any) -> None:
    """`held`: the type of keys and values; activations are bf16."""
    constants, signature = {}, {}
    for name in kernel.arg_names:
        if name.isupper():
            constants[name] = (PUBLISHED | changes)[name]
            signature[name] = "constexpr"
        elif name in ("k_at", "v_at"):
            signature[name] = held
        else:
            signature[name] = (INTEGERS | FLOATS | NUMBERS).get(name, "*bf16")
    made = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps, "enable_fp_fusion": True},
    )
    assert len(made.asm["cubin"]) > 0
    print("cubin", kernel.__name__, capability, held, changes, f"shared memory {made.metadata.shared}")


EIGHT_BITS: dict[str, Any] = {"held": "*fp8e4nv", "SCALED": True}
for chip in (80, 90):
    compile_for(chip, attention._attend_part)
    compile_for(chip, fused._append, warps=1)
compile_for(90, attention._attend_part, **EIGHT_BITS)
compile_for(90, attention._attend_part, SPLITS=1)
compile_for(90, attention._attend_part, GROUP=4, GROUP_PAD=16, KV_HEADS=4)
compile_for(90, attention._attend_join, warps=1)
compile_for(90, fused._append, warps=1, **EIGHT_BITS)
compile_for(90, fused._add_norm)
compile_for(90, fused._swiglu)
compile_for(90, fused._modulate)
compile_for(90, fused._modulate, ADD=False, PARTS=2)
