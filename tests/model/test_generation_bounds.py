"""Stopping: never before the text is read, never without a bound, and said truthfully."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sled_tts.model.errors import ModelError
from sled_tts.model.generation import Generation, GenerationRequest, generate, seeded_noise
from sled_tts.model.sled import Sled
from tests.model.factories import tiny, token_ids


def _always(model: Sled, stop: bool) -> Sled:
    """A stop head that is sure, whatever it sees: the final norm's scale is made positive in one unit only."""
    with torch.no_grad():
        model.eos_head.weight.zero_()
        if not stop:
            # sigmoid(0) = 0.5 would count as a streaming stop; push every logit below it.
            model.eos_head.register_forward_hook(lambda _module, _inputs, out: out - 20.0)
        else:
            model.eos_head.register_forward_hook(lambda _module, _inputs, out: out + 20.0)
    return model


def _one(model: Sled, length: int, frames: int, **options: object) -> Generation:
    request = GenerationRequest(token_ids(length, 1), seeded_noise(3, 6), frames)
    return generate(model, [request], **options)[0]  # type: ignore[arg-type]


@given(st.integers(2, 15), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_a_stop_never_drops_text(length: int, n: int, m: int) -> None:
    """However sure the stop head is from the first frame on, all turns but the last are written in full."""
    model = _always(tiny(1)[0], stop=True)
    result = _one(model, length, 100, n=n, m=m)
    turns = -(-length // n)
    assert result.reason == "stop"
    assert result.latents.shape[0] == (turns - 1) * m
    assert result.stop_latent is not None


def test_the_strict_switch_reproduces_the_reference() -> None:
    model = _always(tiny(1)[0], stop=True)
    result = _one(model, 12, 100, n=3, m=4, strict_reference_stop=True)
    assert (result.reason, result.latents.shape[0]) == ("stop", 0)


@pytest.mark.parametrize("order", [{}, {"n": 3, "m": 4}])
def test_a_model_that_never_stops_ends_at_the_bound_and_says_length(order: dict[str, int]) -> None:
    model = _always(tiny(1)[0], stop=False)
    result = _one(model, 9, 30, **order)
    assert (result.reason, result.latents.shape[0]) == ("length", 30)
    assert result.stop_latent is None


@given(st.integers(2, 30), st.integers(1, 6), st.integers(1, 6), st.booleans())
@settings(max_examples=20, deadline=None)
def test_positions_are_never_passed(length: int, n: int, m: int, offline: bool) -> None:
    """A bound larger than the model's positions still ends, with `length`, inside them."""
    model = _always(tiny(1, max_position_embeddings=32)[0], stop=False)
    result = _one(model, length, 1000, **({} if offline else {"n": n, "m": m}))
    assert result.reason == "length"
    # The last frame written is never fed back, hence the one beyond.
    assert 1 <= result.latents.shape[0] <= 33 - min(n, length)


def test_text_that_cannot_fit_at_all_is_an_error() -> None:
    with pytest.raises(ModelError, match="limit is 32"):
        _one(tiny(1, max_position_embeddings=32)[0], 33, 10)


def test_each_row_of_a_batch_stops_by_itself_and_its_stop_frame_is_not_speech() -> None:
    model, _ = tiny(4)
    model.prepare_for_inference()
    requests = [GenerationRequest(token_ids(length, length), seeded_noise(length, 6), 24) for length in (4, 7, 11)]
    free = generate(model, requests, ignore_stop=True, trace=True)
    logits = torch.stack([r.stop_logits for r in free if r.stop_logits is not None])
    threshold = torch.sigmoid(logits).quantile(0.9).item()
    fired = torch.sigmoid(logits) >= threshold
    expected = [int(row.nonzero()[0]) if row.any() else 24 for row in fired]
    assert len(set(expected)) > 1, "the rows must stop at different steps for this test to mean anything"
    results = generate(
        model,
        [GenerationRequest(r.ids, seeded_noise(len(r.ids), 6), 24) for r in requests],
        stop_threshold=threshold,
    )
    for result, whole, stop in zip(results, free, expected, strict=True):
        assert result.latents.shape[0] == stop
        assert result.reason == ("stop" if stop < 24 else "length")
        torch.testing.assert_close(result.latents, whole.latents[:stop], atol=2e-5, rtol=2e-5)


def test_same_seed_alone_or_in_company() -> None:
    model = tiny(5)[0].prepare_for_inference()

    def request(seed: int) -> GenerationRequest:
        return GenerationRequest(token_ids(5 + seed, seed), seeded_noise(seed, 6), 20)

    together = generate(model, [request(s) for s in range(6)], n=2, m=3, ignore_stop=True)
    for seed, result in enumerate(together):
        (alone,) = generate(model, [request(seed)], n=2, m=3, ignore_stop=True)
        torch.testing.assert_close(result.latents, alone.latents, atol=1e-4, rtol=1e-4)


def test_an_empty_batch_is_an_empty_answer() -> None:
    assert generate(tiny(1)[0], []) == []
