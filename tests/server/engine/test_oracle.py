"""The engine against the naive cache-free SLED and offline decoding, under whatever else is going on."""

from __future__ import annotations

import itertools
import math
import os
import random
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch

from sled_tts.model.generation import seeded_noise
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.register import Register
from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.request import Finished, FinishReason, Float32, Mode, Prompt, SynthesisRequest
from sled_tts.server.engine.runner import SledRunner
from tests.fakes import Listener, admit, cancel, dynamics, make_engine, melody, push, tiny_codec, tiny_runner
from tests.model.factories import TINY, tiny, token_ids

N, M = 3, 4
LENGTHS = (2, 3, 4, 6, 7, 9, 12, 13)
MODES = (Mode.STREAMING, Mode.OFFLINE)
# How many interleavings of each mode; fewer where the same is asked of slower steps.
RUNS = "SLED_TTS_TEST_INTERLEAVINGS"


@dataclass(frozen=True)
class Case:
    """A request by its parameters, so that what it should sound like is computed once."""

    mode: Mode
    tokens: int
    seed: int
    cfg: float
    max_frames: int
    prompt: int
    told: int = 0

    @property
    def ids(self) -> list[int]:
        return token_ids(self.tokens, self.seed)

    @property
    def prompt_ids(self) -> list[int]:
        """The transcript of a prompt that is a block of its own; empty when the text opens with it."""
        return token_ids(self.told + 1, self.seed + 100)[:-1] if self.told else []

    @property
    def dynamics(self) -> Dynamics | None:
        """Every third has some, which are heard where there is a melody."""
        return dynamics(self.seed) if self.seed % 3 == 2 else None

    @property
    def register(self) -> Register | None:
        """Every second has one, so that streams with and without melody share steps and take each other's slots."""
        return Register(100.0 + 4 * (self.seed % 9), 0.3) if self.seed % 2 else None

    def request(self, live: bool) -> SynthesisRequest:
        prompt = None
        if self.prompt:
            draw = torch.randn(self.prompt, TINY["vae_embed_dim"], generator=torch.Generator().manual_seed(self.seed))
            prompt = Prompt(draw.numpy(), tuple(self.prompt_ids))
        ids = None if live else tuple(self.ids)
        return SynthesisRequest(
            str(self), self.mode, self.seed, self.cfg, self.max_frames, prompt, ids,
            register=self.register, dynamics=self.dynamics,
        )  # fmt: skip


@cache
def runner(mode: Mode) -> SledRunner:
    pacing = {"stream_n": N, "stream_m": M} if mode is Mode.STREAMING else {}
    return tiny_runner(slots=6, stop_bias=2.0, **pacing)[0]


def engine(mode: Mode) -> Engine:
    ticks = itertools.count()
    return make_engine(runner(mode), lambda: next(ticks) * 0.002)


@cache
def cases(mode: Mode) -> tuple[Case, ...]:
    rng = random.Random(7)
    prompts = (0, 0, 0, 3, 9)
    made = [
        Case(
            mode,
            rng.choice(LENGTHS),
            seed,
            rng.choice((1.0, 2.0, 1.5)),
            rng.choice((1, 5, 8, 20, 26)),
            rng.choice(prompts),
        )
        for seed in range(20)
    ]
    if mode is Mode.STREAMING:
        blocks = ((1, 7), (2, 11), (7, 8), (9, 7), (6, 14))
        made += [
            Case(mode, rng.choice(LENGTHS), 30 + k, (2.0, 1.0)[k % 2], 20, frames, told)
            for k, (told, frames) in enumerate(blocks + blocks)
        ]
    return (*made, Case(mode, 7, 90, 2.0, 26, 0), Case(mode, 2, 91, 2.0, 26, 0))


@cache
def alone(case: Case) -> tuple[Float32, FinishReason]:
    """What the engine says when nobody else is there and the text comes whole."""
    lone = engine(case.mode)
    _, heard = admit(lone, case.request(live=False))
    while lone.step():
        pass
    assert isinstance(heard.end, Finished)
    return heard.pcm, heard.end.reason


@cache
def oracle(case: Case) -> tuple[Float32, FinishReason, float]:
    """PCM and end by the naive network and one offline decode, and how near the stop head came to its threshold."""
    owner = runner(case.mode)
    pacing = {"stream_n": N, "stream_m": M} if case.mode is Mode.STREAMING else {}
    _sled, naive = tiny(seed=3, **pacing)
    naive.w["eos_head.weight"] = 3.0 * naive.w["eos_head.weight"]
    source = seeded_noise(case.seed, TINY["noise_channels"])
    noise = torch.stack([source(k) for k in range(case.max_frames)])
    request = case.request(live=False)
    prompt = None
    if request.prompt is not None:
        prompt = (torch.from_numpy(request.prompt.latents) - owner.state.mean) / owner.state.std
    n, m = (N, M) if case.mode is Mode.STREAMING else (None, None)
    steps = naive.synthesise(case.ids, noise, case.cfg, n=n, m=m, prompt=prompt, prompt_ids=case.prompt_ids)
    level = math.log(0.8 / 0.2) if n is None else 0.0
    last_turn = 0 if n is None else (-(-case.tokens // N) - 1) * M - (0 if case.told else case.prompt)
    margin = float((steps.logits - level).abs().min())
    fired = [k for k in range(case.max_frames) if k >= last_turn and steps.logits[k] >= level]
    frames = fired[0] if fired else case.max_frames
    spoken = steps.latents[:frames].float()
    latents = spoken * owner.state.std + owner.state.mean
    before = torch.zeros(0, latents.shape[1]) if request.prompt is None else torch.from_numpy(request.prompt.latents)
    if not frames:
        pcm = np.zeros(0, np.float32)
    else:
        pcm = owner.codec.decode(torch.cat([before, latents])[None])[0].numpy()[case.prompt * owner.info.hop :]
        if case.register is not None:
            rate, hop = owner.info.sampling_rate, owner.info.hop
            melodist = melody().begin(case.register, case.seed, rate=rate, hop=hop, dynamics=case.dynamics)
            pcm = melodist.push(pcm, latents.numpy(), final=True)
    return pcm, FinishReason.STOP if fired else FinishReason.LENGTH, margin


@pytest.mark.parametrize("mode", MODES)
def test_alone_equals_the_naive_oracle(mode: Mode) -> None:
    compared = 0
    reasons = set()
    for case in cases(mode):
        want, reason, margin = oracle(case)
        if margin < 1e-3:
            continue
        got, ended = alone(case)
        assert ended is reason
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-4)
        compared += 1
        reasons.add(reason)
    assert compared >= 15
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}


@dataclass
class Live:
    """A stream under way: what is still to be pushed, and when it is to be cancelled."""

    case: Case
    slot: int
    heard: Listener
    rest: list[int]
    cancel_at: int | None
    age: int = 0


def interleave(mode: Mode, seed: int) -> int:
    """Random admissions, token arrivals, cancellations and reading pauses; returns how many ran to their end."""
    rng = random.Random(seed)
    shared = engine(mode)
    waiting = [rng.choice(cases(mode)) for _ in range(rng.randint(2, 9))]
    live: list[Live] = []
    ended = 0
    for _ in range(3000):
        if waiting and shared.pool.in_use < 6 and rng.random() < 0.4:
            case = waiting.pop()
            trickle = mode is Mode.STREAMING and rng.random() < 0.8
            slot, heard = admit(
                shared, case.request(live=trickle), eager=rng.random() < 0.6, max_unread=rng.choice((7, 64))
            )
            stop_early = rng.randint(0, 12) if rng.random() < 0.25 else None
            live.append(Live(case, slot, heard, case.ids if trickle else [], stop_early))
        for stream in live:
            stream.age += 1
            if stream.rest and rng.random() < 0.5:
                count = rng.randint(1, 5)
                part, stream.rest = stream.rest[:count], stream.rest[count:]
                push(shared, stream.slot, stream.heard, part, final=not stream.rest)
            if rng.random() < 0.3:
                stream.heard.read_all()
            if stream.cancel_at == stream.age:
                cancel(shared, stream.slot, stream.heard)
        shared.step()
        for stream in [s for s in live if s.heard.end is not None]:
            live.remove(stream)
            check(stream)
            ended += stream.cancel_at is None or stream.age <= stream.cancel_at
        if not waiting and not live:
            assert shared.pool.in_use == 0
            return ended
    raise AssertionError("the streams never ended")


def check(stream: Live) -> None:
    want, reason = alone(stream.case)
    end, got = stream.heard.end, stream.heard.pcm
    assert isinstance(end, Finished)
    assert [e.sequence for e in stream.heard.events[:-1] if hasattr(e, "sequence")] == list(
        range(sum(hasattr(e, "sequence") for e in stream.heard.events))
    )
    if end.reason is FinishReason.CANCELLED:
        assert stream.cancel_at is not None
        np.testing.assert_array_equal(got, want[: len(got)])
        return
    assert end.reason is reason
    assert end.samples == len(got)
    # Bit for bit: neither company, nor arrival of the text, nor the reader's pace is audible.
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("mode", MODES)
def test_any_interleaving_gives_what_each_gives_alone(mode: Mode) -> None:
    for case in cases(mode):
        alone(case)  # now, because it uses the same runner's slots
    runs = int(os.environ.get(RUNS, "150"))
    assert sum(interleave(mode, seed) for seed in range(runs)) > 2 * runs


def test_sixteen_at_once_are_what_each_is_alone_and_killing_eight_changes_nothing() -> None:
    pacing = {"stream_n": N, "stream_m": M}
    # A comparison with NaN is never true, so nobody stops.
    wide = tiny_runner(slots=16, stop_bias=float("nan"), **pacing)[0]
    made = [Case(Mode.STREAMING, LENGTHS[k % 8], 200 + k, 2.0, 40, 0) for k in range(16)]
    single = {}
    for case in made:
        lone = make_engine(wide, lambda c=itertools.count(): next(c) * 0.002)  # type: ignore[misc]
        _, heard = admit(lone, case.request(live=False))
        while lone.step():
            pass
        single[case] = heard.pcm
        assert len(heard.pcm) == 40 * wide.info.hop
    shared = make_engine(wide, lambda c=itertools.count(): next(c) * 0.002)  # type: ignore[misc]
    together = [(case, *admit(shared, case.request(live=False))) for case in made]
    for _ in range(15):
        shared.step()
    for _, slot, heard in together[::2]:
        cancel(shared, slot, heard)
    shared.step()
    assert shared.pool.in_use == 8
    again = [(case, *admit(shared, case.request(live=False))) for case, _, _ in together[::2]]
    while shared.step():
        pass
    for case, _, heard in together[1::2] + again:
        np.testing.assert_array_equal(heard.pcm, single[case])
    for case, _, heard in together[::2]:
        assert isinstance(heard.end, Finished)
        assert heard.end.reason is FinishReason.CANCELLED
        np.testing.assert_array_equal(heard.pcm, single[case][: len(heard.pcm)])


def test_a_checkpoints_noise_scale_is_that_of_its_samples() -> None:
    sled, naive = tiny(seed=3, stream_n=N, stream_m=M)
    sled.prepare_for_inference()
    quiet = SledRunner(sled, tiny_codec(), torch.zeros(10), torch.ones(10), slots=1, noise_scale=0.3)
    ids = token_ids(6, 5)
    ticks = itertools.count()
    scaled = make_engine(quiet, lambda: next(ticks) * 0.002)
    request = SynthesisRequest("r", Mode.STREAMING, 5, 2.0, 5, None, tuple(ids))
    source = seeded_noise(5, TINY["noise_channels"], 0.3)
    want = naive.synthesise(ids, torch.stack([source(k) for k in range(5)]), 2.0, n=N, m=M).latents
    admit(scaled, request)
    for _ in range(5):
        scaled.step()
    np.testing.assert_allclose(quiet.state.latents[0, :3].numpy(), want[:3].numpy(), atol=1e-4)
