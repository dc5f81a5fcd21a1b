"""Does a network sample from a distribution, or has it collapsed to a point? Statistics of latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sled_tts.model.sled import Sled
from sled_tts.model.training.batches import Corpus, Utterance, collate
from sled_tts.model.training.losses import condition_states, energy_distance


@dataclass(frozen=True)
class Spread:
    """Means over frames, in normalised latents, reading the truth: `error` from sample to truth, `between` two samples,
    and their `energy` distance (twice the error less `between`), which is least for the true distribution."""

    error: float
    between: float
    energy: float

    @property
    def ratio(self) -> float:
        """1 when samples scatter as much as the truth does around them, 0 when they are one point."""
        return self.between / self.error


@torch.inference_mode()
def spread(sled: Sled, utterances: Sequence[Utterance], seed: int) -> Spread:
    """Two samples for each frame of some utterances of a corpus."""
    torch.manual_seed(seed)
    config = sled.config
    batch = collate(utterances, left_pad_text=not config.is_streaming)
    z = condition_states(sled, batch.ids, batch.latents, batch.layout(config))[:, :-1]
    shape = (*batch.speech_mask.shape, config.generator.noise_channels)
    first, second = (sled.generator(z, torch.randn(shape)) for _ in range(2))
    real = batch.speech_mask.bool()
    first, second, truth = first[real], second[real], batch.latents[real]
    error = torch.linalg.vector_norm(torch.stack([first, second]) - truth, dim=-1).mean()
    between = torch.linalg.vector_norm(first - second, dim=-1).mean()
    return Spread(float(error), float(between), float(energy_distance(first, second, truth).mean()))


@dataclass(frozen=True)
class Liveliness:
    """Of latents over time: `deviation` of a dimension from its mean in the utterance, `change` from frame to frame."""

    deviation: float
    change: float

    @classmethod
    def of(cls, spoken: Sequence[Tensor]) -> Liveliness:
        """Means over utterances `[S, D]` of at least two frames; zeros when there are none."""
        long = [latents for latents in spoken if len(latents) > 1]
        if not long:
            return cls(0.0, 0.0)
        deviation = torch.stack([latents.std(0).mean() for latents in long]).mean()
        change = torch.stack([torch.linalg.vector_norm(x[1:] - x[:-1], dim=-1).mean() for x in long]).mean()
        return cls(float(deviation), float(change))


def held_out_items(corpus: Corpus, speaker: str | None, longest: int | None, count: int) -> list[Utterance]:
    """The last `count` utterances of a corpus that fit: arms see the first ones."""
    fitting = [
        item
        for item in corpus.items
        if (speaker is None or item.speaker == speaker) and (longest is None or item.frames <= longest)
    ]
    return [corpus.utterance(item) for item in fitting[-count:]]
