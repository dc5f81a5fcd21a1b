"""Prompt blocks that are computed once and copied."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sled_tts.server.engine.prefix import Prefix, PrefixCache
from sled_tts.server.engine.request import Finished, Float32, Mode, Prompt, SynthesisRequest
from sled_tts.server.engine.runner import SledRunner
from tests.fakes import admit, make_engine, run_dry, tiny_runner
from tests.model.factories import TINY, token_ids

PROMPT = Prompt(
    np.random.default_rng(0).standard_normal((9, TINY["vae_embed_dim"])).astype(np.float32), tuple(token_ids(5, 1)[:-1])
)


def speak(runner: SledRunner, prompt: Prompt, seed: int = 3, n: int | None = None) -> Float32:
    ticks = itertools.count()
    engine = make_engine(runner, lambda: next(ticks) * 0.002)
    ids = tuple(token_ids(7, seed)[1:])
    _, heard = admit(engine, SynthesisRequest("r", Mode.STREAMING, seed, 2.0, 20, prompt, ids, n=n))
    run_dry(engine)
    assert isinstance(heard.end, Finished)
    return heard.pcm


@pytest.fixture
def runner() -> SledRunner:
    return tiny_runner(slots=2, stream_n=3, stream_m=4)[0]


def test_a_copied_prefix_gives_the_same_bits_and_no_prompt_is_read_twice(
    runner: SledRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns: list[int] = []
    forward = runner._forward
    monkeypatch.setattr(runner, "_forward", lambda rows: columns.append(len(rows[0].conditional)) or forward(rows))
    first = speak(runner, PROMPT)
    assert columns[0] == len(PROMPT.ids) + PROMPT.frames, "the prompt's tokens and frames"
    columns.clear()
    other = speak(runner, PROMPT, seed=4)
    again = speak(runner, Prompt(PROMPT.latents.copy(), PROMPT.ids))
    assert max(columns) <= 4, "from then on nobody reads it"
    assert np.array_equal(first, again)
    assert not np.array_equal(first[: len(other)], other[: len(first)])


def test_another_pacing_is_another_prefix(runner: SledRunner) -> None:
    speak(runner, PROMPT)
    got = speak(runner, PROMPT, n=2)
    fresh = speak(tiny_runner(slots=2, stream_n=3, stream_m=4)[0], PROMPT, n=2)
    assert np.array_equal(got, fresh)


def test_the_prefixes_used_last_are_kept_within_the_limit(runner: SledRunner) -> None:
    speak(runner, PROMPT)
    (one,) = runner._prefixes._held.values()
    cache = PrefixCache(limit_bytes=2 * one.bytes)
    for key in "ab":
        cache.put(key, one)
    assert cache.get("a") is one
    cache.put("c", one)
    assert [key for key in "abc" if cache.get(key)] == ["a", "c"]
    assert cache.bytes == 2 * one.bytes
    small = PrefixCache(limit_bytes=1)
    small.put("d", one)
    assert small.get("d") is one, "the newest is always kept"


def test_a_slot_that_has_decoded_nothing_has_no_snapshot(runner: SledRunner) -> None:
    runner.decoder.reset([0])
    with pytest.raises(ValueError, match="decoded nothing"):
        runner.decoder.snapshot(0)


def test_bytes_count_caches_and_decoder(runner: SledRunner) -> None:
    speak(runner, PROMPT)
    (one,) = runner._prefixes._held.values()
    assert isinstance(one, Prefix)
    held = [*itertools.chain.from_iterable(one.rows.parts), *itertools.chain.from_iterable(one.decoder)]
    assert one.bytes == sum(t.numel() * t.element_size() for t in held) > 0
    assert all(t.dtype is torch.float32 for t in held)
