"""The metric that follows from what a network foretells, and samples in place of a corpus's latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sled_tts.model.config import SledConfig
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import SPECIAL, train_tokenizer
from sled_tts.model.training.aligned import Sampling, write_aligned_samples
from sled_tts.model.training.batches import Batch, Corpus, collate
from sled_tts.model.training.loop import SledTraining, train_sled
from sled_tts.model.training.losses import condition_states, energy_distance
from sled_tts.model.training.metric import Spread, energy_metric, measure_spread
from sled_tts.model.training.pairing import PairedBatches, Pairing, each_once
from sled_tts.model.training.synthetic import CorpusItem
from tests.model.factories import tiny


def network(**changes: object) -> Sled:
    return tiny(vocab_size=260, stream_n=2, stream_m=3, **changes)[0]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Latents of very different sizes, not centred; between utterances lie frames that belong to none."""
    items, offset = [], 0
    for index in range(10):
        items.append(CorpusItem(index, f"text {index}", offset, 24 + index, [], "AB"[index % 2]))
        offset += 26 + index
    latents = np.random.default_rng(0).standard_normal((offset, 10)).astype(np.float16) * 3 + 1
    tokenizer = train_tokenizer(["some text"], len(SPECIAL) + 256)
    return Corpus(items, latents, torch.ones(10), 3.0, [], tokenizer)


def batch_of(corpus: Corpus) -> Batch:
    return collate([corpus.utterance(item, prompt=corpus.items[0]) for item in corpus.items[1:5]], left_pad_text=False)


def covariance(seed: int, sizes: list[float]) -> Tensor:
    turn = torch.linalg.qr(torch.randn(len(sizes), len(sizes), generator=torch.Generator().manual_seed(seed)))[0]
    return (turn @ torch.diag(torch.tensor(sizes)) @ turn.T).double()


def test_what_is_left_becomes_alike_in_all_directions_but_less_where_all_is_left() -> None:
    shares = [0.05, 0.2, 0.5, 1.0]
    turn = covariance(1, [4.0, 1.0, 2.0, 0.5])
    root = torch.linalg.cholesky(turn)
    residual = root @ torch.diag(torch.tensor(shares).double()) @ root.T
    metric = energy_metric(Spread(turn * 100, residual * 100, residual * 100, 100), floor=0.0).double()
    left = metric.T @ residual @ metric
    expected = [1 - share for share in shares[:3]] + [0.04]
    torch.testing.assert_close(torch.linalg.eigvalsh(left), torch.tensor(sorted(expected)).double(), atol=1e-4, rtol=0)
    total = torch.linalg.eigvalsh(metric.T @ turn @ metric)
    torch.testing.assert_close(total, torch.tensor([0.04, 1.0, 4.0, 19.0]).double(), atol=1e-3, rtol=1e-3)


def test_directions_below_the_floor_do_not_count() -> None:
    """Both are foretold equally well, but nobody hears the second."""
    left = torch.diag(torch.tensor([0.1, 1e-7])).double()
    spread = Spread(torch.diag(torch.tensor([1.0, 1e-6])).double(), left, left, 1)
    loud, faint = energy_metric(spread, floor=0.03).pow(2).sum(1).sqrt().tolist()
    assert faint / loud * 1e-3 < 0.01


def test_the_energy_in_a_metric_is_the_energy_of_what_was_multiplied() -> None:
    first, second, target, metric = torch.randn(4, 10, 10, generator=torch.Generator().manual_seed(0))
    expected = energy_distance(first @ metric, second @ metric, target @ metric)
    torch.testing.assert_close(energy_distance(first, second, target, metric=metric), expected)


def test_few_samples_find_the_same_spread_as_many(corpus: Corpus) -> None:
    """The samples' own spread must not be taken for what cannot be foretold."""
    model, batch = network(), batch_of(corpus)
    many = measure_spread(model, [batch], samples=400)
    few = [measure_spread(model, [batch], samples=2, seed=seed).residual.trace() for seed in range(60)]
    assert float(torch.stack(few).mean() / many.residual.trace()) == pytest.approx(1, abs=0.02)
    assert many.frames == int(batch.speech_mask.sum())
    truth = batch.latents[batch.speech_mask].double()
    torch.testing.assert_close(many.total, truth.T @ truth)


def test_a_spread_travels_as_a_list(corpus: Corpus) -> None:
    spread = measure_spread(network(), [batch_of(corpus)], samples=2)
    again = Spread.from_list(spread.as_list())
    assert again.frames == spread.frames
    assert torch.equal(again.total, spread.total)
    assert torch.equal(again.residual, spread.residual)
    assert torch.equal(again.scatter, spread.scatter)


def test_scatter_is_that_of_samples_and_prompts_may_be_left_out(corpus: Corpus) -> None:
    model, batch = network(), batch_of(corpus)
    spread = measure_spread(model, [batch], samples=400, prompts=False)
    spoken = batch.speech_mask.clone()
    for row, prompt in enumerate(batch.prompts):
        assert prompt.frames
        spoken[row, : prompt.frames] = False
    assert spread.frames == int(spoken.sum())
    with torch.no_grad():
        states = condition_states(model, batch.ids, batch.latents, batch.layout(model.config))[:, :-1][spoken]
        rng = torch.Generator().manual_seed(9)
        noise = torch.randn(400, len(states), model.config.generator.noise_channels, generator=rng)
        drawn = torch.stack([model.generator(states, one) for one in noise])
    torch.testing.assert_close(spread.scatter.diagonal(), drawn.var(0).sum(0).double(), rtol=0.1, atol=0)


@pytest.mark.parametrize("decay", [0.0, 0.6])
def test_a_run_that_changes_its_metric_resumes_to_the_last_bit(corpus: Corpus, tmp_path: Path, decay: float) -> None:
    config: SledConfig = network().config
    training = SledTraining(
        steps=6, positions=300, warmup=1, save_every=4, report_every=1, metric_from=2, metric_batches=3,
        average=decay,
    )  # fmt: skip

    class Killed(Exception):
        pass

    def kill(model: Sled, step: int) -> None:
        raise Killed

    train_sled(corpus, config, training, tmp_path / "whole")
    with pytest.raises(Killed):
        train_sled(corpus, config, training, tmp_path / "broken", saved=kill)
    train_sled(corpus, config, training, tmp_path / "broken")
    train_sled(corpus, config, replace(training, metric_from=None), tmp_path / "plain")
    whole, broken, plain = (load_file(tmp_path / name) for name in ("whole", "broken", "plain"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert any(not torch.equal(whole[name], plain[name]) for name in whole)


def test_every_utterance_is_replaced_by_samples_and_nothing_else(corpus: Corpus, tmp_path: Path) -> None:
    model, out = network(), tmp_path / "samples.npy"
    made = write_aligned_samples(model, corpus, out, prompts=Pairing(0.8, 40), positions=200, seed=3)
    samples, truth = np.load(out), np.asarray(corpus.latents[:])
    inside = np.zeros(len(truth), dtype=bool)
    for item in corpus.items:
        inside[item.offset : item.offset + item.frames] = True
    assert made == inside.sum()
    assert samples.dtype == np.float16
    assert np.array_equal(samples[~inside], truth[~inside])
    assert (samples[inside] != truth[inside]).any(axis=1).all()
    write_aligned_samples(model, corpus, tmp_path / "again.npy", prompts=Pairing(0.8, 40), positions=200, seed=3)
    assert np.array_equal(np.load(tmp_path / "again.npy"), samples)


def test_samples_are_made_once_of_each_utterance_where_a_training_weighs_speakers(corpus: Corpus) -> None:
    pairing = Pairing(0.8, 40)
    batches = each_once(corpus, 200, pairing, seed=3)
    assert sorted(item.offset for batch in batches for _, item in batch) == [item.offset for item in corpus.items]
    assert any(prompt is not None for batch in batches for prompt, _ in batch)
    unweighted, weighted = (PairedBatches(corpus, 200, pairing, 3, weights=weights) for weights in ({}, {"A": 3.0}))
    assert batches == [unweighted[index][1] for index in range(len(batches))]
    drawn = [item.offset for index in range(len(batches)) for _, item in weighted[index][1]]
    assert len(set(drawn)) < len(drawn), "a weighted epoch would not do"


def test_samples_of_long_utterances_fit_the_network_that_makes_them(corpus: Corpus, tmp_path: Path) -> None:
    """Each fits by itself, most do not with a prompt before them; padded in one batch they must fit too."""
    most = 50
    model = network(max_position_embeddings=most)
    alone = max(item.frames + len(corpus.tokenizer.encode(item.text)) for item in corpus.items)
    assert alone <= most < 2 * alone
    made = write_aligned_samples(model, corpus, tmp_path / "samples.npy", prompts=Pairing(1.0, 40), positions=200)
    assert made == sum(item.frames for item in corpus.items)


def test_samples_follow_the_recording_they_are_aligned_with(corpus: Corpus, tmp_path: Path) -> None:
    """A network whose output is its noise alone would not: its samples change with the past it reads."""
    model = network()
    flat = replace(corpus, latents=np.zeros_like(np.asarray(corpus.latents[:])))
    for name, data in (("real", corpus), ("flat", flat)):
        write_aligned_samples(model, data, tmp_path / name, prompts=Pairing(), positions=200)
    assert not np.array_equal(np.load(tmp_path / "real"), np.load(tmp_path / "flat"))


def test_samples_are_drawn_with_the_noise_and_the_guidance_that_are_asked_for(corpus: Corpus, tmp_path: Path) -> None:
    model = network()

    def samples(name: str, sampling: Sampling | None) -> np.ndarray:
        write_aligned_samples(
            model, corpus, tmp_path / name, prompts=Pairing(0.8, 40), sampling=sampling, positions=200
        )
        made: np.ndarray = np.load(tmp_path / name).astype(np.float32)
        return made

    plain = samples("plain", Sampling((1.0, 1.0)))
    still = samples("still", Sampling((0.0, 0.0)))
    assert np.abs(still - plain).mean() > 1e-3, "noise is in the samples"
    # So little more than none that a pass without text is made and changes nothing.
    one = samples("one", Sampling((0.0, 0.0), (1.0, 1.0 + 1e-7)))
    np.testing.assert_allclose(one, still, atol=1e-2)
    guided = samples("guided", Sampling((0.0, 0.0), (2.0, 2.0)))
    away = samples("away", Sampling((0.0, 0.0), (0.0, 0.0)))
    assert np.abs(guided - still).mean() > 1e-4, "guidance leads away from what is said without a text"
    assert np.abs(away - still).mean() > 1e-4
