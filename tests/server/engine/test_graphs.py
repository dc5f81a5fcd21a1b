"""Static-shape speech steps against the ragged ones, and which bucket serves whom. No GPU needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from sled_tts.server.engine.graphs import Buckets
from sled_tts.server.engine.request import Float32, Mode, SynthesisRequest
from sled_tts.server.engine.runner import SledRunner
from tests.fakes import Listener, admit, cancel, make_engine, tiny_codec, tiny_runner
from tests.model.factories import TINY, tiny, token_ids


@pytest.mark.parametrize(("slots", "widths"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))])
def test_widths_double_up_to_the_slots(slots: int, widths: tuple[int, ...]) -> None:
    assert Buckets(slots, 300).widths == widths


def test_the_smallest_bucket_that_holds_everybody_is_taken() -> None:
    buckets = Buckets(6, 600)
    assert buckets.depths == (256, 512, 600)
    assert buckets.fit([0], 256) == (1, 256)
    assert buckets.fit([0, 2], 257) == (4, 512)
    assert buckets.fit([5], 600) == (6, 600)


def static_runner() -> SledRunner:
    sled, _ = tiny(seed=3, stream_n=3, stream_m=4)
    with torch.no_grad():
        sled.eos_head.weight.fill_(float("nan"))  # a comparison with NaN is never true: nobody stops
    sled.prepare_for_inference()
    return SledRunner(sled, tiny_codec(), torch.zeros(10), torch.ones(10), slots=6, static=True)


def ragged_runner() -> SledRunner:
    made = tiny_runner(slots=6, stop_bias=float("nan"), stream_n=3, stream_m=4)[0]
    made._mean, made._std = torch.zeros(TINY["vae_embed_dim"]), torch.ones(TINY["vae_embed_dim"])
    return made


def speak_all(runner: SledRunner) -> list[Float32]:
    """Streams that come and go: idle lanes, guided and unguided ones, text read in between."""
    engine = make_engine(runner, lambda c=itertools.count(): next(c) * 0.002)  # type: ignore[misc]
    heard: list[Listener] = []
    for seed in range(10):
        request = SynthesisRequest(
            f"r{seed}", Mode.STREAMING, seed, (1.0, 2.0)[seed % 2], 20 + seed, None, tuple(token_ids(4 + seed, seed))
        )
        slot, listener = admit(engine, request)
        heard.append(listener)
        for _ in range(5):
            engine.step()
        if seed in (2, 5):
            cancel(engine, slot, listener)
            engine.step()
    while engine.step():
        pass
    return [h.pcm for h in heard]


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh memory holds NaN, as it may: a mask hides a position from the softmax, yet 0 times NaN is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
def test_static_steps_give_what_ragged_steps_give() -> None:
    for got, want in zip(speak_all(static_runner()), speak_all(ragged_runner()), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-4)
        assert want.size > 0 or got.size == 0
