"""Speakers of a corpus: how often each is heard in training, and speech of one to ship with a checkpoint as a voice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch

from sled_tts.model.errors import ModelError
from sled_tts.model.training.batches import TrainingData
from sled_tts.model.training.synthetic import CorpusItem
from sled_tts.model.voices import BuiltInVoice


def check_weights(weights: Mapping[str, float], param: str) -> None:
    """Weights say how often a speaker is heard relative to those without one. Raises ModelError unless all are positive
    and finite."""
    for speaker, weight in weights.items():
        if not (weight > 0 and isfinite(weight)):
            where = f"{param}.{speaker}"
            raise ModelError(f"{where} must be greater than 0 and finite, got {weight}", param=where)


def require_speakers(known: Iterable[str], weights: Mapping[str, float], param: str) -> None:
    """Raises ModelError that names the first speaker of `weights` who is not among `known`, of which no more is read
    than it takes."""
    missing, seen = set(weights), set[str]()
    speakers = iter(known)
    while missing and (speaker := next(speakers, None)) is not None:
        missing.discard(speaker)
        seen.add(speaker)
    if missing:
        raise _unknown(min(missing), seen, f"{param}.{min(missing)}")


def repeated(items: Sequence[CorpusItem], weights: Mapping[str, float], rng: np.random.Generator) -> list[int]:
    """The indices of one epoch: the whole part of a speaker's weight tells how often each utterance comes, and the rest
    how likely it comes once more. Without weights each comes once, and nothing is drawn."""
    if not weights:
        return list(range(len(items)))
    wanted = np.array([weights.get(item.speaker, 1.0) for item in items])
    times = np.floor(wanted) + (rng.random(len(items)) < wanted % 1)
    return np.repeat(np.arange(len(items)), times.astype(np.int64)).tolist()


@dataclass(frozen=True)
class Spans:
    """Where spans of `frames` frames may begin in the audio of a corpus: at frames `first[i]` to `first[i] + count[i]`
    of utterance i, each as likely as its speaker's weight says. Where they end does not matter."""

    first: np.ndarray
    count: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, items: Iterable[CorpusItem], weights: Mapping[str, float], total: int, frames: int) -> Spans:
        """In audio of `total` frames. Raises ModelError for weights of speakers who are not there."""
        every = list(items)
        require_speakers((item.speaker for item in every), weights, "weights")
        first = np.array([item.offset for item in every])
        ends = np.minimum(first + [item.frames for item in every], total - frames)
        return cls(first, np.maximum(ends - first, 0), np.array([weights.get(item.speaker, 1.0) for item in every]))

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Frames `[count]`."""
        chances = self.weight * self.count
        chosen = rng.choice(len(chances), count, p=chances / chances.sum())
        drawn: np.ndarray = self.first[chosen] + (rng.random(count) * self.count[chosen]).astype(np.int64)
        return drawn


def find_voice(data: TrainingData, speaker: str, frames: float) -> BuiltInVoice:
    """The utterance of a speaker whose length is nearest to `frames`. Raises ModelError for an unknown speaker."""
    found: tuple[CorpusItem, np.ndarray] | None = None
    known: set[str] = set()
    for corpus in data.windows():
        known |= {item.speaker for item in corpus.items}
        for item in corpus.items:
            nearer = found is None or abs(item.frames - frames) < abs(found[0].frames - frames)
            if item.speaker == speaker and nearer:
                latents = corpus.latents[item.offset : item.offset + item.frames]
                found = item, np.asarray(latents, dtype=np.float32)
    if found is None:
        raise _unknown(speaker, known, "voice.voices")
    return BuiltInVoice(speaker, speaker.title(), found[0].text, torch.from_numpy(found[1]))


def _unknown(speaker: str, known: Iterable[str], param: str) -> ModelError:
    some = ", ".join(name or "(one without a name)" for name in sorted(known)[:20])
    return ModelError(f"{param}: no speaker {speaker!r} in the corpus; there are: {some}", param=param)
