"""Which utterances make a batch, and which follow a prompt: bucketed by length, a function of a seed and a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sled_tts.model.errors import ModelError
from sled_tts.model.training.batches import Corpus, TrainingData
from sled_tts.model.training.speakers import repeated
from sled_tts.model.training.synthetic import CorpusItem
from sled_tts.model.training.workers import Workers


@dataclass(frozen=True)
class Pairing:
    """How often an utterance follows a prompt, and how long (frames) a prompt may be."""

    share: float = 0.0
    max_frames: int = 200


Pair = tuple[CorpusItem | None, CorpusItem]


@dataclass
class _Place:
    """The batches of one window of a lane; `first` is the number of its first batch within the lane."""

    window: int
    first: int
    corpus: Corpus
    batches: list[list[Pair]]


@dataclass
class PairedBatches:
    """Batches of (prompt, item) whose padded size stays within `positions`, with the corpus they are from; batch i is
    a function of the seed and i. No row is longer than `most`, which the network's positions may be.

    Batch i is the (i // lanes)-th of lane i % lanes. A window holds each of its utterances once an epoch, or as often
    as `weights` says of its speaker (see `repeated`); prompts are drawn anew each time among the same speaker's short
    utterances of the window. Its state is where each lane is, which only saves reading everything before again.
    """

    data: TrainingData
    positions: int
    pairing: Pairing
    seed: int
    lanes: int = 1
    most: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    _places: dict[int, _Place] = field(default_factory=dict, init=False, repr=False)
    _starts: dict[int, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    def __getitem__(self, index: int) -> tuple[Corpus, list[Pair]]:
        """Batch `index >= 0`. Going forward is cheap; going back starts over."""
        number, lane = divmod(index, self.lanes)
        place = self._places.get(lane)
        if place is None or number < place.first:
            window, first = self._starts.get(lane, (0, 0))
            place = self._open(lane, *((window, first) if first <= number else (0, 0)))
        while number >= place.first + len(place.batches):
            # Whoever has looked ahead comes back to here.
            self._starts[lane] = place.window, place.first
            place = self._open(lane, place.window + 1, place.first + len(place.batches))
        return place.corpus, place.batches[number - place.first]

    def share(self, workers: Workers) -> None:
        """Learn from all processes where every lane is, before the state is saved."""
        if workers.size > self.lanes:  # a corpus in memory, in which going forward is cheap
            return
        own = [(p.window, p.first) if (p := self._places.get(lane)) else (0, 0) for lane in range(self.lanes)]
        summed = [round(value) for value in workers.total([float(number) for place in own for number in place])]
        self._starts = {lane: (summed[2 * lane], summed[2 * lane + 1]) for lane in range(self.lanes)}

    def state_dict(self) -> dict[str, Any]:
        return {"starts": [list(self._starts.get(lane, (0, 0))) for lane in range(self.lanes)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._places = {}
        self._starts = {lane: (window, first) for lane, (window, first) in enumerate(state["starts"])}

    def _open(self, lane: int, window: int, first: int) -> _Place:
        corpus = self.data.window(lane, self.lanes, window)
        if not corpus.items:
            raise ModelError("no utterance here can be trained on: all end before their text is read", param="data")
        rng = np.random.default_rng([self.seed, lane, window])
        drawn = repeated(corpus.items, self.weights, rng)
        batches = _paired_epoch(corpus, drawn, self.positions, self.pairing, rng, self.most)
        place = _Place(window, first, corpus, batches)
        self._places[lane] = place
        return place


def each_once(corpus: Corpus, positions: int, pairing: Pairing, seed: int, most: int | None = None) -> list[list[Pair]]:
    """Batches, as `PairedBatches` makes them, that hold every utterance of `corpus` once, whatever a training's weights
    say of its speakers; no row is longer than `most`."""
    rng = np.random.default_rng([seed, 0, 0])
    return _paired_epoch(corpus, range(len(corpus.items)), positions, pairing, rng, most)


def _paired_epoch(
    corpus: Corpus,
    drawn: Sequence[int],
    positions: int,
    pairing: Pairing,
    rng: np.random.Generator,
    most: int | None,
) -> list[list[Pair]]:
    """Batches of the utterances `drawn`."""
    items, tokenizer = corpus.items, corpus.tokenizer
    texts = [len(tokenizer.encode(item.text)) for item in items]
    sizes = [item.frames + text for item, text in zip(items, texts, strict=True)]
    candidates: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if item.frames <= pairing.max_frames:
            candidates.setdefault(item.speaker, []).append(index)
    prompts: list[int | None] = []
    for index in drawn:
        others = candidates.get(items[index].speaker, [])
        other = others[rng.integers(len(others))] if others and rng.random() < pairing.share else index
        # A space comes between the two.
        alone = other == index or (most is not None and sizes[index] + sizes[other] + 1 > most)
        prompts.append(None if alone else other)
    lengths = [sizes[i] + (0 if p is None else sizes[p]) for i, p in zip(drawn, prompts, strict=True)]
    read = [texts[i] + (0 if p is None else texts[p]) for i, p in zip(drawn, prompts, strict=True)]
    return [
        [(None if (p := prompts[k]) is None else items[p], items[drawn[k]]) for k in batch]
        for batch in _one_epoch(lengths, read, positions, rng, most)
    ]


def _one_epoch(
    lengths: Sequence[int], texts: Sequence[int], positions: int, rng: np.random.Generator, most: int | None
) -> Iterator[list[int]]:
    """Index lists whose padded size stays within `positions`, similar lengths together, in random order. Rows of
    `lengths`, of which `texts` is text; padded apart, text and speech together stay within `most`."""
    jitter = rng.uniform(0, 20, len(lengths))
    order = np.argsort(np.asarray(lengths) + jitter)
    epoch: list[list[int]] = []
    batch: list[int] = []
    for index in order.tolist():
        rows = [index, *batch]
        longest = max(lengths[i] for i in rows)
        apart = max(texts[i] for i in rows) + max(lengths[i] - texts[i] for i in rows)
        if batch and (len(rows) * longest > positions or (most is not None and apart > most)):
            epoch.append(batch)
            batch = []
        batch.append(index)
    if batch:
        epoch.append(batch)
    for which in rng.permutation(len(epoch)):
        yield epoch[which]
