"""Pairs of prompt and utterance, their batches, and a few steps of the loop on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sled_tts.model.errors import ModelError
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import SPECIAL, Tokenizer, train_tokenizer
from sled_tts.model.training.batches import Corpus, Pairing, collate, paired_batches
from sled_tts.model.training.layout import PromptSpan
from sled_tts.model.training.loop import SledTraining, StepReport, train_sled
from sled_tts.model.training.synthetic import CorpusItem
from tests.model.factories import tiny

Pair = tuple[CorpusItem | None, CorpusItem]


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
    seen = 0
    for batch in paired_batches(corpus, positions, pairing, np.random.default_rng(3)):
        yield batch
        seen += len(batch)
        if seen == len(corpus.items):
            return


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


def test_a_prompted_utterance_is_both_texts_and_both_recordings(corpus: Corpus) -> None:
    prompt, item = corpus.items[0], corpus.items[3]
    both = corpus.utterance(item, prompt=prompt)
    assert both.ids == corpus.tokenizer.encode("text 0 text 3")
    assert both.prompt == PromptSpan(len("text 0") + 1, prompt.frames)
    first, second = corpus.utterance(prompt), corpus.utterance(item)
    assert torch.equal(both.latents, torch.cat([first.latents, second.latents]))
    assert both.phones.tolist() == [-1] * prompt.frames + second.phones.tolist()
    assert collate([both, second], left_pad_text=False).prompts == [both.prompt, PromptSpan()]


def test_the_loop_learns_with_prompts_and_keeps_its_checkpoint(corpus: Corpus, tmp_path: Path) -> None:
    config = replace(tiny(0, stream_n=3, stream_m=5)[0].config, vocab_size=len(SPECIAL) + 256)
    training = SledTraining(
        steps=100, positions=250, lr=4e-3, warmup=5, prompts=Pairing(0.8, 60), text_drop=0.2, save_every=50
    )
    reports: list[StepReport] = []
    model = train_sled(corpus, config, training, tmp_path / "sled.safetensors", report=reports.append)
    assert reports[-1].stop < reports[0].stop
    saved = Sled(config)
    saved.load_state_dict(load_file(tmp_path / "sled.safetensors"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, saved.state_dict()[name])


def test_a_loss_that_is_not_finite_stops_the_loop(corpus: Corpus, tmp_path: Path) -> None:
    config = replace(tiny(0, stream_n=3, stream_m=5)[0].config, vocab_size=len(SPECIAL) + 256)
    corpus.latents[5] = np.inf
    with pytest.raises(ModelError, match="at step"):
        train_sled(corpus, config, SledTraining(steps=20, positions=10_000), tmp_path / "sled.safetensors")
    assert not (tmp_path / "sled.safetensors").exists()
