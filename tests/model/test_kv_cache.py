"""The ragged cached forward pass: rows out of step, in any order, any slot, reused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sled_tts.model.errors import ModelError
from sled_tts.model.kv_cache import KVCache
from tests.model.factories import tiny

ROWS, LONGEST = 5, 14
step = st.dictionaries(st.integers(0, ROWS - 1), st.integers(1, 4), min_size=1, max_size=ROWS)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(step, st.sets(st.integers(0, ROWS - 1), max_size=2)), min_size=1, max_size=9),
    st.randoms(),
)
def test_any_schedule_equals_the_whole_sequence(schedule: list[tuple[dict[int, int], set[int]]], order: object) -> None:
    """Feed random pieces to random rows, forgetting some between steps: every row always computes what the
    cache-free pass computes over what that row has been fed since it was last reset."""
    model, _ = tiny(1)
    model.prepare_for_inference()
    cache = KVCache.allocate(model.config, ROWS, LONGEST)
    rng = torch.Generator().manual_seed(0)
    fed = [torch.zeros(0, 24) for _ in range(ROWS)]
    with torch.inference_mode():
        for pieces, forget in schedule:
            rows = [r for r, count in pieces.items() if len(fed[r]) + count <= LONGEST]
            order.shuffle(rows)  # type: ignore[attr-defined]
            if rows:
                fresh = {row: torch.randn(pieces[row], 24, generator=rng) for row in rows}
                got = model(torch.cat([fresh[r] for r in rows]), cache, rows, [pieces[r] for r in rows])
                for row, part in zip(rows, got.split([pieces[r] for r in rows]), strict=True):
                    fed[row] = torch.cat([fed[row], fresh[row]])
                    whole = model.forward_full(fed[row][None])[0, -pieces[row] :]
                    torch.testing.assert_close(part, whole, atol=1e-4, rtol=1e-4)
            cache.reset(sorted(forget))
            for row in forget:
                fed[row] = torch.zeros(0, 24)
            assert cache.lengths == [len(f) for f in fed]


def test_a_row_is_the_same_beside_others_and_alone() -> None:
    model, _ = tiny(2)
    model.prepare_for_inference()
    tokens = torch.randn(9, 24, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        alone = model(tokens[:3], KVCache.allocate(model.config, 1, 9), [0], [3])
        crowd = model(tokens, KVCache.allocate(model.config, 8, 9), [6, 2, 1], [3, 5, 1])[:3]
    torch.testing.assert_close(alone, crowd, atol=1e-5, rtol=1e-5)


def test_numbers_left_by_an_earlier_stream_are_never_seen() -> None:
    """A reset row that held other (finite) numbers computes exactly what a fresh one does."""
    model, _ = tiny(2)
    cache = KVCache.allocate(model.config, 3, 8)
    with torch.inference_mode():
        model(torch.randn(8, 24, generator=torch.Generator().manual_seed(9)), cache, [1], [8])
        for stale in (*cache.keys, *cache.values):
            stale[1] *= 1e4
        cache.reset([1])
        tokens = torch.randn(4, 24, generator=torch.Generator().manual_seed(5))
        other = torch.randn(7, 24, generator=torch.Generator().manual_seed(6))
        # Row 0 is longer, so row 1 is padded over its stale part.
        dirty = model(torch.cat([other, tokens]), cache, [0, 1], [7, 4])[7:]
        clean = model(torch.cat([other, tokens]), KVCache.allocate(model.config, 2, 8), [0, 1], [7, 4])[7:]
    torch.testing.assert_close(dirty, clean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("capacity", "limit"), [(6, 128), (64, 6)])
def test_a_row_never_passes_its_capacity_or_the_position_limit(capacity: int, limit: int) -> None:
    model, _ = tiny(2, max_position_embeddings=limit)
    cache = KVCache.allocate(model.config, 2, capacity)
    with torch.inference_mode():
        model(torch.randn(6, 24), cache, [1], [6])
        with pytest.raises(ModelError, match="row 1 would hold 7 positions, the limit is 6"):
            model(torch.randn(2, 24), cache, [0, 1], [1, 1])
        assert cache.lengths == [0, 6]


def test_memory_is_counted() -> None:
    model, _ = tiny(2)
    cache = KVCache.allocate(model.config, 3, 10, dtype=torch.bfloat16)
    assert cache.bytes == 2 * 2 * 3 * 10 * 24 * 2
    assert cache.capacity == 10
