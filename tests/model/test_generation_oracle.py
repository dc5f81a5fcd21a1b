"""The cached, batched, guided generation against the naive oracle."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sled_tts.model.errors import ModelError
from sled_tts.model.generation import Generation, GenerationRequest, generate
from tests.model.factories import tiny, token_ids
from tests.reference import Steps

# fp32 against float64, what it wrote fed back for up to nine frames: some networks make 2e-4 of their rounding.
TOLERANCE = 1e-3


def _assert_same(got: Generation, want: Steps) -> None:
    assert got.z is not None
    assert got.hidden is not None
    assert got.stop_logits is not None
    for mine, oracle in (
        (got.latents, want.latents),
        (got.z, want.z),
        (got.hidden, want.hidden),
        (got.stop_logits, want.logits),
    ):
        assert mine.shape == oracle.shape
        torch.testing.assert_close(mine.double(), oracle, atol=TOLERANCE, rtol=TOLERANCE)


rows = st.lists(st.tuples(st.integers(2, 11), st.integers(1, 9)), min_size=1, max_size=4)
scales = st.sampled_from([1.0, 1.5, 2.0])


@settings(max_examples=25, deadline=None)
@given(rows, scales, st.integers(1, 6), st.integers(1, 6), st.integers(0, 99), st.booleans())
def test_streaming_batches_match_the_oracle(
    batch: list[tuple[int, int]], cfg: float, n: int, m: int, seed: int, fused: bool
) -> None:
    model, oracle = tiny(seed)
    if fused:
        model.prepare_for_inference()
    noise = torch.randn(len(batch), 9, 6, generator=torch.Generator().manual_seed(seed))
    requests = [
        GenerationRequest(token_ids(length, seed + b), lambda s, b=b: noise[b, s], frames)  # type: ignore[misc]
        for b, (length, frames) in enumerate(batch)
    ]
    results = generate(model, requests, cfg_scale=cfg, n=n, m=m, ignore_stop=True, trace=True)
    for b, (request, result) in enumerate(zip(requests, results, strict=True)):
        want = oracle.synthesise(request.ids, noise[b, : request.max_frames], cfg, n=n, m=m)
        _assert_same(result, want)
        assert result.reason == "length"


@settings(max_examples=25, deadline=None)
@given(
    rows,
    scales,
    st.lists(st.integers(0, 9), min_size=4, max_size=4),
    st.integers(0, 99),
    st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_batches_with_voice_prompts_match_the_oracle(
    batch: list[tuple[int, int]], cfg: float, prompts: list[int], seed: int, order: tuple[int, int] | None
) -> None:
    n, m = order or (None, None)
    model, oracle = tiny(seed)
    model.prepare_for_inference()
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(batch), 9, 6, generator=rng)
    spoken = [torch.randn(count, 10, generator=rng) if count else None for count in prompts[: len(batch)]]
    requests = [
        GenerationRequest(token_ids(length, seed + b), lambda s, b=b: noise[b, s], frames, spoken[b])  # type: ignore[misc]
        for b, (length, frames) in enumerate(batch)
    ]
    results = generate(model, requests, cfg_scale=cfg, n=n, m=m, ignore_stop=True, trace=True)
    for b, (request, result) in enumerate(zip(requests, results, strict=True)):
        want = oracle.synthesise(request.ids, noise[b, : request.max_frames], cfg, n=n, m=m, prompt=spoken[b])
        _assert_same(result, want)


@settings(max_examples=25, deadline=None)
@given(
    rows,
    scales,
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 12)), min_size=4, max_size=4),
    st.integers(0, 99),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_prompt_blocks_match_the_oracle(
    batch: list[tuple[int, int]], cfg: float, prompts: list[tuple[int, int]], seed: int, n: int, m: int
) -> None:
    model, oracle = tiny(seed)
    model.prepare_for_inference()
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(batch), 9, 6, generator=rng)
    spoken = [torch.randn(frames, 10, generator=rng) for _, frames in prompts]
    told = [token_ids(tokens + 1, seed + 50 + b)[:-1] for b, (tokens, _) in enumerate(prompts)]
    requests = [
        GenerationRequest(token_ids(length, seed + b)[1:], lambda s, b=b: noise[b, s], frames, spoken[b], told[b])  # type: ignore[misc]
        for b, (length, frames) in enumerate(batch)
    ]
    results = generate(model, requests, cfg_scale=cfg, n=n, m=m, ignore_stop=True, trace=True)
    for b, (request, result) in enumerate(zip(requests, results, strict=True)):
        want = oracle.synthesise(
            request.ids, noise[b, : request.max_frames], cfg, n=n, m=m, prompt=spoken[b], prompt_ids=told[b]
        )
        _assert_same(result, want)


def test_one_other_subword_is_far_outside_the_tolerance() -> None:
    for seed in range(20):
        model, oracle = tiny(seed)
        noise = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
        ids = token_ids(7, seed)
        (result,) = generate(
            model, [GenerationRequest(ids, lambda s, noise=noise: noise[s], 5)], n=2, m=2, ignore_stop=True, trace=True
        )
        other = [*ids[:3], 4 + (ids[3] - 3) % 56, *ids[4:]]
        want = oracle.synthesise(other, noise, 2.0, n=2, m=2)
        assert (result.latents.double() - want.latents).abs().max() > 100 * TOLERANCE


def test_a_prompt_block_needs_frames_and_the_streaming_order() -> None:
    model, _ = tiny(0)
    request = GenerationRequest([5, 2], lambda step: torch.zeros(6), 1, torch.zeros(2, 10), [0, 4])
    with pytest.raises(ModelError, match="streaming order"):
        generate(model, [request])
    with pytest.raises(ModelError, match="need a prompt"):
        generate(model, [replace(request, prompt=None)], n=2, m=2)


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from([(8, 2), (12, 3), (20, 5)]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([3, 17]),
    st.sampled_from([1, 9]),
)
def test_every_size_comes_from_the_configuration(
    hidden: tuple[int, int], layers: int, depth: int, latent: int, channels: int
) -> None:
    size, heads = hidden
    model, oracle = tiny(
        3,
        hidden_size=size * 2,
        num_attention_heads=heads if size % heads == 0 else 2,
        num_key_value_heads=heads if size % heads == 0 else 2,
        num_hidden_layers=layers,
        diffloss_d=depth,
        diffloss_w=14,
        vae_embed_dim=latent,
        noise_channels=channels,
        rope_theta=500.0,
        rms_norm_eps=1e-3,
        eos_token_id=7,
    )
    noise = torch.randn(5, channels, generator=torch.Generator().manual_seed(1))
    request = GenerationRequest(token_ids(7, 4), lambda step: noise[step], 5)
    (result,) = generate(model, [request], n=2, m=2, ignore_stop=True, trace=True)
    _assert_same(result, oracle.synthesise(request.ids, noise, 2.0, n=2, m=2))
