"""Run with TRITON_INTERPRET=1: every kernel against `plain` over ragged, odd and padded shapes."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F

from sled_tts.model.kernels import attention, fused, plain

rng = torch.Generator().manual_seed(0)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=rng).to(dtype)


def case(columns: int, heads: int, kv_heads: int, dim: int, capacity: int, dtype: torch.dtype):  # type: ignore[no-untyped-def]
    rows = torch.randperm(columns + 3, generator=rng)[:columns]
    lengths = torch.randint(1, capacity + 1, (columns,), generator=rng)
    lengths[0], lengths[-1] = 1, capacity
    keys, values = (draw(columns + 3, kv_heads, capacity, dim, dtype=dtype) for _ in range(2))
    for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
        # What has not been written must not be read, not even under a weight of zero.
        keys[row, :, length:] = values[row, :, length:] = float("nan")
    return draw(columns, heads, dim, dtype=dtype), keys, values, rows, lengths


def exact(q, keys, values, rows, lengths):  # type: ignore[no-untyped-def]
    """SDPA, one column after another, over exactly its positions."""
    out = []
    for i, (row, length) in enumerate(zip(rows.tolist(), lengths.tolist(), strict=True)):
        k, v = keys[row, :, :length].float(), values[row, :, :length].float()
        grouped = q.shape[1] != k.shape[0]
        out.append(F.scaled_dot_product_attention(q[i, :, None].float(), k, v, enable_gqa=grouped)[:, 0])
    return torch.stack(out)


for (columns, capacity), splits, dtype in itertools.product(
    ((1, 40), (3, 130)), (None, 1, 2, 4), (torch.float32, torch.bfloat16)
):
    made = case(columns, 3, 3, 8, capacity, dtype)
    got = attention.attend(*made, splits=splits)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), exact(*made), atol=2e-5 if dtype == torch.float32 else 2e-2, rtol=1e-2)
print("attend")

for heads, kv_heads in ((4, 2), (6, 2), (5, 1)):
    made = case(3, heads, kv_heads, 16, 100, torch.float32)
    torch.testing.assert_close(attention.attend(*made, splits=2), exact(*made), atol=2e-5, rtol=1e-4)
print("grouped")

assert attention.splits_for(2, 16, 2048) == 32
assert attention.splits_for(1024, 16, 2048) == 1
assert attention.splits_for(1, 1, 40) == 1

for dtype, scaled, heads, kv_heads in (
    (torch.float32, False, 3, 3), (torch.bfloat16, False, 3, 3), (torch.float32, True, 4, 2),
):  # fmt: skip
    columns, dim, capacity = 5, 12, 9
    joint = draw(columns, heads + 2 * kv_heads, dim, dtype=dtype)
    angle = draw(capacity, dim // 2)
    cos, sin = (torch.cat([f(angle), f(angle)], dim=1) for f in (torch.cos, torch.sin))
    rows, positions = torch.tensor([4, 0, 2, 2, 1]), torch.tensor([0, 8, 3, 4, 8])
    held = torch.float8_e4m3fn if scaled else dtype

    def cache(kv_heads=kv_heads, capacity=capacity, dim=dim, held=held):  # type: ignore[no-untyped-def]
        return [torch.zeros(5, kv_heads, capacity, dim).to(held) for _ in range(2)]

    def marks(kv_heads=kv_heads, capacity=capacity, scaled=scaled):  # type: ignore[no-untyped-def]
        return tuple(torch.zeros(5, kv_heads, capacity) for _ in range(2)) if scaled else None

    ours, theirs, our_scales, their_scales = cache(), cache(), marks(), marks()
    got = fused.append(joint, cos, sin, rows, positions, *ours, our_scales)
    want = plain.append(joint, cos, sin, rows, positions, *theirs, their_scales)
    near = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 1e-2}
    torch.testing.assert_close(got, want, **near)
    for a, b in zip(ours, theirs, strict=True):
        assert float(b.float().abs().sum()) > 0
        a, b = a.float(), b.float()
        if scaled:
            # Triton 3.9's interpreter halves what rounds up to a power of two (31.5 becomes 16, not 32).
            a = torch.where(2 * a == b, b, a)
        # A quotient between two e4m3 numbers may round either way.
        torch.testing.assert_close(a, b, **({"atol": 1e-6, "rtol": 0.13} if scaled else near))
    if scaled:
        assert our_scales is not None
        assert their_scales is not None
        for a, b in zip(our_scales, their_scales, strict=True):
            torch.testing.assert_close(a, b)
        asked = rows, positions + 1
        found = attention.attend(got, *theirs, *asked, their_scales, splits=2)
        wide = [t.float() * s[..., None] for t, s in zip(theirs, their_scales, strict=True)]
        torch.testing.assert_close(found, exact(got, *wide, *asked), atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(plain.attend(got, *theirs, *asked, their_scales), found, atol=2e-5, rtol=1e-4)
        print("e4m3")
print("append")

for dtype, delta in itertools.product((torch.float32, torch.bfloat16), (False, True)):
    x, weight = draw(4, 24, dtype=dtype), draw(24, dtype=dtype)
    other = draw(4, 24, dtype=dtype) if delta else None
    for a, b in zip(fused.add_norm(x, other, weight, 1e-6), plain.add_norm(x, other, weight, 1e-6), strict=True):
        torch.testing.assert_close(a, b)
print("add_norm")

for size in (40, 1030):
    joint = draw(3, 2 * size)
    torch.testing.assert_close(fused.swiglu(joint), plain.swiglu(joint))
print("swiglu")

slots, index = torch.tensor([1, 0, 3]), torch.tensor([4, 0, 7])
for parts, gated in ((3, False), (3, True), (2, True)):
    x, table, before = draw(3, 16), draw(4, 8, parts * 16), (draw(3, 16), draw(4, 8, 48))
    added = before if gated else None
    for a, b in zip(
        fused.modulate(x, added, table, slots, index, 1e-6), plain.modulate(x, added, table, slots, index, 1e-6),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b)
print("modulate")
