"""Pairs of prompt and utterance, their batches, and a few steps of the loop on them."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sled_tts.model.config import SledConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import SPECIAL, Tokenizer, train_tokenizer
from sled_tts.model.training.batches import Corpus, collate, lasting
from sled_tts.model.training.layout import PromptSpan
from sled_tts.model.training.loop import SledTraining, StepReport, _micro_batch, train_sled
from sled_tts.model.training.objective import Counts, Objective, micro_batch_loss
from sled_tts.model.training.pairing import Pair, PairedBatches, Pairing
from sled_tts.model.training.resume import write_atomically
from sled_tts.model.training.speakers import Spans, check_weights, require_speakers
from sled_tts.model.training.synthetic import CorpusItem
from tests.model.factories import tiny


@pytest.fixture(scope="module")
def bytes_only() -> Tokenizer:
    return train_tokenizer(["some text"], len(SPECIAL) + 256)


@pytest.fixture
def corpus(bytes_only: Tokenizer) -> Corpus:
    """Twelve utterances of two speakers; every other one has phone labels."""
    items, offset = [], 0
    for index in range(12):
        frames = 20 + 3 * index
        labels = ["a", "b"] * frames if index % 2 else []
        items.append(CorpusItem(index, f"text {index}", offset, frames, labels[:frames], "AB"[index % 3 == 0]))
        offset += frames
    latents = np.random.default_rng(0).standard_normal((offset, 10)).astype(np.float16)
    return Corpus(items, latents, torch.zeros(10), 1.0, ["a", "b"], bytes_only)


def first_epoch(corpus: Corpus, pairing: Pairing, positions: int) -> Iterator[list[Pair]]:
    batches = PairedBatches(corpus, positions, pairing, seed=3)
    seen = index = 0
    while seen < len(corpus.items):
        _, pairs = batches[index]
        yield pairs
        seen += len(pairs)
        index += 1


def test_prompts_are_short_utterances_of_the_same_speaker(corpus: Corpus) -> None:
    pairs = [pair for batch in first_epoch(corpus, Pairing(1.0, 40), 300) for pair in batch]
    assert sorted(item.index for _, item in pairs) == list(range(12)), "an epoch holds every utterance once"
    prompted = [(prompt, item) for prompt, item in pairs if prompt is not None]
    assert len(prompted) >= 8
    for prompt, item in prompted:
        assert prompt.speaker == item.speaker
        assert prompt.frames <= 40
        assert prompt != item
    assert all(prompt is None for batch in first_epoch(corpus, Pairing(0.0), 300) for prompt, _ in batch)


def test_padded_batches_stay_within_their_bound(corpus: Corpus) -> None:
    for batch in first_epoch(corpus, Pairing(0.7, 60), 400):
        made = [corpus.utterance(item, prompt=prompt) for prompt, item in batch]
        longest = max(len(u.ids) + len(u.latents) for u in made)
        assert len(batch) == 1 or longest * len(batch) <= 400


@pytest.mark.parametrize("most", [60, 75, 100])
def test_no_row_is_longer_than_the_networks_positions(corpus: Corpus, bytes_only: Tokenizer, most: int) -> None:
    fitting = replace(corpus, items=lasting(corpus.items, bytes_only, None, None, most))
    assert 0 < len(fitting.items) <= len(corpus.items)
    batches = PairedBatches(fitting, 1000, Pairing(1.0, 60), seed=3, most=most)
    prompted = 0
    for index in range(20):
        _, pairs = batches[index]
        made = [fitting.utterance(item, prompt=prompt) for prompt, item in pairs]
        prompted += sum(prompt is not None for prompt, _ in pairs)
        assert max(len(u.ids) for u in made) + max(len(u.latents) for u in made) <= most
    assert (prompted > 0) == (most > 60), "a prompt only where it fits"


def test_a_prompted_utterance_is_both_texts_and_both_recordings(corpus: Corpus) -> None:
    prompt, item = corpus.items[0], corpus.items[3]
    both = corpus.utterance(item, prompt=prompt)
    assert both.ids == corpus.tokenizer.encode("text 0 text 3")
    assert both.prompt == PromptSpan(len("text 0") + 1, prompt.frames)
    first, second = corpus.utterance(prompt), corpus.utterance(item)
    assert torch.equal(both.latents, torch.cat([first.latents, second.latents]))
    assert both.phones.tolist() == [-1] * prompt.frames + second.phones.tolist()
    assert collate([both, second], left_pad_text=False).prompts == [both.prompt, PromptSpan()]


def test_a_batch_is_a_function_of_the_seed_and_its_number(corpus: Corpus) -> None:
    there = PairedBatches(corpus, 200, Pairing(0.5, 60), seed=4)
    forward = [there[index] for index in range(40)]
    assert [there[index] for index in (39, 7, 8, 0)] == [forward[index] for index in (39, 7, 8, 0)]
    assert PairedBatches(corpus, 200, Pairing(0.5, 60), seed=4)[25] == forward[25]
    assert PairedBatches(corpus, 200, Pairing(0.5, 60), seed=5)[25] != forward[25]


WEIGHTS = {"A": 2.5, "B": 0.5}


def epochs(corpus: Corpus, count: int, seed: int = 3) -> list[list[Pair]]:
    """Every pair of the first `count` windows, which are epochs here."""
    batches, made, index = PairedBatches(corpus, 300, Pairing(0.8, 60), seed, weights=WEIGHTS), list[list[Pair]](), 0
    while len(made) <= count:
        _, pairs = batches[index]
        while len(made) <= batches._places[0].window:
            made.append([])
        made[-1] += pairs
        index += 1
    return made[:count]


def test_weighted_speakers_are_heard_as_often_as_their_weights_say(corpus: Corpus) -> None:
    made = epochs(corpus, 40)
    times = np.array([[sum(item.index == i for _, item in pairs) for i in range(12)] for pairs in made])
    speakers = np.array([item.speaker for item in corpus.items])
    assert set(times[:, speakers == "A"].flatten()) == {2, 3}
    assert set(times[:, speakers == "B"].flatten()) == {0, 1}
    for speaker, weight in WEIGHTS.items():
        assert times[:, speakers == speaker].mean() == pytest.approx(weight, abs=0.15)
    assert len(np.unique(times, axis=0)) > 30, "every epoch draws anew"
    assert all(
        prompt is None or (prompt != item and prompt.speaker == item.speaker) for p in made for prompt, item in p
    )
    assert epochs(corpus, 5) == made[:5]
    assert epochs(corpus, 5, seed=4) != made[:5]


def test_a_weighted_run_resumes_to_the_last_bit_and_with_no_other_weights(corpus: Corpus, tmp_path: Path) -> None:
    training = SledTraining(steps=9, positions=300, warmup=1, save_every=5, prompts=Pairing(0.5, 40))

    class Killed(Exception):
        pass

    def kill(model: Sled, step: int) -> None:
        raise Killed

    def trained(name: str, weights: dict[str, float], saved: Callable[[Sled, int], None] | None = None) -> None:
        train_sled(corpus, streaming_config(), training, tmp_path / name, weights=weights, saved=saved)

    trained("whole", WEIGHTS)
    trained("even", {})
    with pytest.raises(Killed):
        trained("cut", WEIGHTS, kill)
    for others in ({}, {"A": 2.5}):
        with pytest.raises(ModelError, match="other settings: weights"):
            trained("cut", others)
    trained("cut", dict(reversed(WEIGHTS.items())))
    whole, cut, even = (load_file(tmp_path / name) for name in ("whole", "cut", "even"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert any(not torch.equal(whole[name], even[name]) for name in whole)


def test_weights_of_nobody_and_weights_that_are_none_are_named(corpus: Corpus) -> None:
    def speakers() -> Iterator[str]:
        yield from (item.speaker for item in corpus.items)
        raise AssertionError("everybody has been found")

    require_speakers(speakers(), WEIGHTS, "data.weights")
    with pytest.raises(ModelError, match=r"data\.weights\.C: no speaker 'C' in the corpus; there are: A, B") as caught:
        require_speakers("ABAB", {"A": 1.0, "C": 2.0}, "data.weights")
    assert caught.value.param == "data.weights.C"
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ModelError, match=r"data\.weights\.A must be greater than 0"):
            check_weights({"A": wrong}, "data.weights")


def test_spans_begin_where_weights_say_and_end_in_the_audio(corpus: Corpus) -> None:
    total = sum(item.frames for item in corpus.items)
    owner = np.repeat([item.speaker for item in corpus.items], [item.frames for item in corpus.items])
    drawn = Spans.of(corpus.items, {"A": 3.0}, total, 30).draw(20_000, np.random.default_rng(0))
    assert drawn.min() == 0
    assert drawn.max() == total - 31
    counts = np.bincount(drawn, minlength=total)[: total - 30]
    within = owner[: total - 30]
    assert counts[within == "A"].mean() / counts[within == "B"].mean() == pytest.approx(3.0, rel=0.05)
    assert (counts > 0).all(), "every frame may begin one"
    with pytest.raises(ModelError, match="no speaker 'C'"):
        Spans.of(corpus.items, {"C": 3.0}, total, 30)


def streaming_config() -> SledConfig:
    return replace(tiny(0, stream_n=3, stream_m=5)[0].config, vocab_size=len(SPECIAL) + 256)


SHORT = SledTraining(
    steps=12, positions=250, lr=4e-3, warmup=5, prompts=Pairing(0.8, 60), save_every=100, report_every=1,
    objective=Objective(text_drop=0.2, precision="fp32"),
)  # fmt: skip


def run(corpus: Corpus, training: SledTraining, path: Path) -> tuple[dict[str, Tensor], list[StepReport]]:
    reports: list[StepReport] = []
    model = train_sled(corpus, streaming_config(), training, path, report=reports.append)
    return dict(model.state_dict()), reports


def test_the_loop_learns_with_prompts_and_keeps_its_checkpoint(corpus: Corpus, tmp_path: Path) -> None:
    training = replace(SHORT, steps=60, objective=Objective(text_drop=0.2), report_every=20)
    state, reports = run(corpus, training, tmp_path / "sled.safetensors")
    assert reports[-1].stop < reports[0].stop
    saved = load_file(tmp_path / "sled.safetensors")
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in state.items())


def test_killed_and_resumed_ends_bit_for_bit_as_if_it_had_not_been(corpus: Corpus, tmp_path: Path) -> None:
    whole, figures = run(corpus, SHORT, tmp_path / "whole.safetensors")

    class Killed(Exception):
        pass

    def kill(report: StepReport) -> None:
        if report.step == 8:
            raise Killed

    path = tmp_path / "cut.safetensors"
    with pytest.raises(Killed):
        train_sled(corpus, streaming_config(), replace(SHORT, save_every=5), path, report=kill)
    resumed, rest = run(corpus, replace(SHORT, save_every=5), path)
    assert [r.step for r in rest] == [6, 7, 8, 9, 10, 11, 12], "it goes on after the last save"
    assert [r.energy for r in rest] == [r.energy for r in figures[5:]], "the same loss curve"
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_a_run_with_other_settings_is_not_resumed(corpus: Corpus, tmp_path: Path) -> None:
    run(corpus, replace(SHORT, steps=2), tmp_path / "sled.safetensors")
    before = (tmp_path / "sled.safetensors").read_bytes()
    with pytest.raises(ModelError, match=r"other settings: lr \("):
        run(corpus, replace(SHORT, steps=2, lr=1.0), tmp_path / "sled.safetensors")
    (tmp_path / "sled.safetensors.run").write_bytes(b"half a file")
    with pytest.raises(ModelError, match="no saved training run"):
        run(corpus, SHORT, tmp_path / "sled.safetensors")
    assert (tmp_path / "sled.safetensors").read_bytes() == before


def test_accumulated_batches_weigh_by_their_frames(corpus: Corpus, tmp_path: Path) -> None:
    """Two micro-batches of a step give the gradient of one batch with the rows of both."""
    plain = replace(SHORT, steps=1, accumulation=2)
    batches = PairedBatches(corpus, plain.positions, plain.prompts, plain.seed)
    _, reports = run(corpus, plain, tmp_path / "two.safetensors")
    torch.manual_seed(plain.seed)
    model = Sled(streaming_config())
    model.init_weights()
    head = nn.Linear(model.config.hidden_size, len(corpus.phone_names))
    parts = []
    for index in (0, 1):
        micro = _micro_batch(batches, plain, streaming_config(), index)
        alone = Counts.of(micro.batch)
        figures = micro_batch_loss(model, head, micro.batch, plain.objective, micro.seed, alone)[1]
        parts.append((figures[0], alone.frames))
    mean = sum(energy * frames for energy, frames in parts) / sum(frames for _, frames in parts)
    assert reports[0].energy == pytest.approx(mean, rel=1e-5)


def test_several_pacings_in_one_run(corpus: Corpus, tmp_path: Path) -> None:
    training = replace(SHORT, pacings=((2, 4), (6, 11)))
    batches = PairedBatches(corpus, 250, Pairing(), 0)
    seen = {_micro_batch(batches, training, streaming_config(), i).pacing for i in range(12)}
    assert seen == {(2, 4), (6, 11)}
    _, reports = run(corpus, training, tmp_path / "sled.safetensors")
    assert len(reports) == 12


def test_a_loss_that_is_not_finite_stops_the_loop(corpus: Corpus, tmp_path: Path) -> None:
    corpus.latents[5] = np.inf
    with pytest.raises(ModelError, match="at step"):
        run(corpus, replace(SHORT, positions=10_000), tmp_path / "sled.safetensors")
    assert not (tmp_path / "sled.safetensors").exists()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.bin"
    path.write_bytes(b"old")

    def run_out(partial: Path) -> None:
        partial.write_bytes(b"ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ModelError, match="No space left"):
        write_atomically(path, run_out)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


WORKER = """
import pickle, sys
from pathlib import Path
from sled_tts.model.training.workers import Workers
from sled_tts.model.training.loop import train_sled
corpus, config, training = pickle.loads(Path(sys.argv[1]).read_bytes())
workers = Workers.from_environment("cpu")
out = Path(sys.argv[2])
reports = []
train_sled(corpus, config, training, out, report=reports.append, workers=workers)
if workers.leads:
    out.with_suffix(".reports").write_bytes(pickle.dumps([r.energy for r in reports]))
"""


def test_two_processes_give_what_one_gives_with_the_doubled_batch(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="the train extra is not installed")
    training = replace(SHORT, steps=4)
    (tmp_path / "job").write_bytes(pickle.dumps((corpus, streaming_config(), training)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", WORKER, str(tmp_path / "job"), str(tmp_path / "two.safetensors")]
    both = [
        subprocess.Popen(command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"})
        for rank in (0, 1)
    ]
    assert [process.wait(600) for process in both] == [0, 0]
    alone, reports = run(corpus, replace(training, accumulation=2), tmp_path / "one.safetensors")
    energies = pickle.loads((tmp_path / "two.reports").read_bytes())
    assert energies == pytest.approx([r.energy for r in reports], rel=1e-4)
    for name, tensor in load_file(tmp_path / "two.safetensors").items():
        torch.testing.assert_close(tensor, alone[name], atol=2e-3, rtol=0)
