"""The engine's packed pass: exact against the whole sequence, and bit-identical whoever shares the step."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.kv_cache import KVCache
from sled_tts.model.sled import Sled
from sled_tts.model.stepping import forward_packed, pack
from tests.model.factories import tiny

SLOTS, LONGEST = 5, 24
PADDING = SLOTS
cuts = st.lists(st.integers(1, 6), min_size=1, max_size=4)


PATHS = pytest.mark.parametrize("compiled", [True, False], ids=["kernels", "operators"])


def _model(compiled: bool) -> Sled:
    """Sizes at which matrix products take the kernels they take in a real model."""
    sled = tiny(1, hidden_size=192, intermediate_size=320, num_attention_heads=3)[0]
    sled.prepare_for_inference(compiled=compiled)
    if compiled and sled.compiled is None:
        pytest.skip("no compiled kernels on this machine")
    return sled


def _feed(model: Sled, cache: KVCache, pieces: list[tuple[int, Tensor]]) -> list[Tensor]:
    """One step: a piece of new inputs for each row; the new hidden states of each."""
    rows, counts = [row for row, _ in pieces], [len(piece) for _, piece in pieces]
    plan = pack(cache, rows, counts, PADDING)
    packed = torch.cat([piece for _, piece in pieces])
    padding = torch.zeros(plan.columns - len(packed), packed.shape[1])
    hidden = forward_packed(model, torch.cat([packed, padding]), cache, plan)
    return list(torch.split(hidden[: len(packed)], counts))


@PATHS
@settings(max_examples=25, deadline=None)
@given(st.lists(cuts, min_size=1, max_size=SLOTS), st.randoms())
def test_company_changes_no_bit_and_the_result_is_that_of_the_whole_sequence(
    compiled: bool, streams: list[list[int]], chance: object
) -> None:
    model = _model(compiled)
    rng = torch.Generator().manual_seed(3)
    inputs = [torch.randn(sum(sizes), 192, generator=rng) for sizes in streams]
    bounds = [[0, *torch.tensor(sizes).cumsum(0).tolist()] for sizes in streams]
    with torch.inference_mode():
        crowd = KVCache.allocate(model.config, SLOTS + 1, LONGEST)
        together: list[list[Tensor]] = [[] for _ in streams]
        todo = [list(pairwise(bound)) for bound in bounds]
        while any(todo):
            # Whoever has something left joins the step or sits it out, at random, in any order.
            joining = [s for s, left in enumerate(todo) if left and chance.random() < 0.7]  # type: ignore[attr-defined]
            chance.shuffle(joining)  # type: ignore[attr-defined]
            if joining:
                spans = [todo[s].pop(0) for s in joining]
                pieces = [(s, inputs[s][a:b]) for s, (a, b) in zip(joining, spans, strict=True)]
                for s, hidden in zip(joining, _feed(model, crowd, pieces), strict=True):
                    together[s].append(hidden)
        for s, bound in enumerate(bounds):
            cache = KVCache.allocate(model.config, SLOTS + 1, LONGEST)
            alone = torch.cat([_feed(model, cache, [(2, inputs[s][a:b])])[0] for a, b in pairwise(bound)])
            assert torch.equal(torch.cat(together[s]), alone)
            whole = model.forward_full(inputs[s][None])[0]
            torch.testing.assert_close(alone, whole, atol=1e-3, rtol=1e-3)


@PATHS
def test_rows_never_read_what_they_have_not_written(compiled: bool) -> None:
    """A slot whose last stream went to NaN is as good as new for the next."""
    model = _model(compiled)
    tokens = torch.randn(9, 192, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        cache = KVCache.allocate(model.config, SLOTS + 1, LONGEST)
        (clean,) = _feed(model, cache, [(1, tokens)])
        cache.reset([1])
        for layer in (*cache.keys, *cache.values):
            layer.fill_(float("nan"))
        (reused,) = _feed(model, cache, [(1, tokens)])
    assert torch.equal(clean, reused)


@PATHS
def test_a_row_that_would_not_fit_is_refused_before_anything_is_written(compiled: bool) -> None:
    model = _model(compiled)
    tokens = torch.randn(LONGEST + 1, 192)
    with torch.inference_mode():
        cache = KVCache.allocate(model.config, SLOTS + 1, LONGEST)
        _feed(model, cache, [(1, tokens[:LONGEST])])
        held = [layer.clone() for layer in cache.keys]
        with pytest.raises(ModelError, match=f"{LONGEST + 1} positions"):
            _feed(model, cache, [(0, tokens[:1]), (1, tokens[:1])])
    assert cache.lengths[:2] == [0, LONGEST]
    assert all(torch.equal(a, b) for a, b in zip(held, cache.keys, strict=True))
