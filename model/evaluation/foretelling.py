"""How much of recorded speech a network foretells, direction by direction of latent space, and how far its samples
scatter. It reads the truth throughout (teacher forcing): what is said here does not include how errors add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sled_tts.model.checkpoint import ModelBundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.page import Column, Page
from sled_tts.model.evaluation.prompting import prompt_latents
from sled_tts.model.evaluation.utterances import Utterance
from sled_tts.model.training.batches import Batch, Corpus, collate, lasting
from sled_tts.model.training.metric import Spread, directions, measure_spread
from sled_tts.model.training.pairing import PairedBatches, Pairing
from sled_tts.model.training.synthetic import CorpusItem

BEST = (8, 16, 32)
_POSITIONS = 3000


@dataclass(frozen=True)
class Foretold:
    """Along directions `[D]`, each over the total variance there: what the mean of the samples leaves of the truth
    (`left`), and the variance of the samples (`scatter`). Both are alike for a network whose samples are distributed
    as the truth is."""

    left: Tensor
    scatter: Tensor
    frames: int

    @classmethod
    def of(cls, spread: Spread, along: Tensor) -> Foretold:
        """In the directions that are the columns of `along [D, D]`."""
        total, left, scatter = (
            (along * (part @ along)).sum(0) for part in (spread.total, spread.residual, spread.scatter)
        )
        return cls(left / total, scatter / total, spread.frames)

    def row(self) -> dict[str, float]:
        """Means over the first 8, 16 and 32 directions, where there are more, and over all."""
        counts = [*(count for count in BEST if count < len(self.left)), len(self.left)]
        names = [*map(str, counts[:-1]), "all"]
        return {
            f"{kind}_{name}": float(values[:count].mean())
            for kind, values in (("left", self.left), ("scatter", self.scatter))
            for name, count in zip(names, counts, strict=True)
        }


def recorded_corpus(bundle: ModelBundle, utterances: Sequence[Utterance]) -> Corpus:
    """Recordings as the checkpoint knows speech, encoded, in its own normalisation. What it could not have been trained
    on is left out (`lasting`). ModelError when that is everything."""
    encoded, items, offset = list[Tensor](), list[CorpusItem](), 0
    for one in utterances:
        latents = prompt_latents(bundle, one.wave(bundle.codec.config.sampling_rate)).float().cpu()
        items.append(CorpusItem(len(items), one.text, offset, len(latents), [], one.speaker))
        encoded.append(latents)
        offset += len(latents)
    config = bundle.config
    kept = lasting(items, bundle.tokenizer, config.stream_n, config.stream_m, config.max_position_embeddings)
    if not kept:
        raise ModelError(f"{bundle.name} can read none of {len(items)} utterances to its end", param="data")
    mean, left_out = torch.zeros(config.latent_dim), len(items) - len(kept)
    return Corpus(kept, torch.cat(encoded).numpy(), mean, 1.0, [], bundle.tokenizer, left_out)


def foretold_spread(bundle: ModelBundle, corpus: Corpus, samples: int, seed: int) -> Spread:
    """`samples` of each frame with all of the noise; where the checkpoint knows prompts, an utterance follows another
    of its speaker, whose frames do not count."""
    return measure_spread(bundle.sled, _batches(bundle, corpus, seed), samples=samples, seed=seed, prompts=False)


def _batches(bundle: ModelBundle, corpus: Corpus, seed: int) -> Iterator[Batch]:
    """Every utterance once."""
    prompted = bundle.takes_blocks
    pairing = Pairing(share=1.0 if prompted else 0.0)
    batches = PairedBatches(corpus, _POSITIONS, pairing, seed, most=bundle.config.max_position_embeddings)
    index, left = 0, len(corpus.items)
    while left > 0:
        _, pairs = batches[index]
        index, left = index + 1, left - len(pairs)
        told = [corpus.utterance(item, prompt=prompt) for prompt, item in pairs]
        yield collate(told, left_pad_text=not bundle.is_streaming).to(bundle.sled.cos.device)


def foretold_page(bundles: Sequence[ModelBundle], utterances: Sequence[Utterance], samples: int, seed: int) -> Page:
    """A row for each checkpoint, all along the directions of the first. ModelError when they do not know speech as the
    same latents."""
    rows, data, along, first = list[dict[str, Any]](), list[dict[str, Any]](), None, None
    left_out = 0
    for bundle in bundles:
        corpus = recorded_corpus(bundle, utterances)
        spread = foretold_spread(bundle, corpus, samples, seed)
        if first is None or along is None:
            first, along, left_out = spread, directions(spread)[0], corpus.left_out
        same = first.total.shape == spread.total.shape and torch.allclose(first.total, spread.total, rtol=1e-2)
        if first.frames != spread.frames or not same:
            raise ModelError(
                f"{bundle.name} and {bundles[0].name} have other latents for the same speech: compare them one by one",
                param="model",
            )
        found = Foretold.of(spread, along)
        rows.append({"system": bundle.name, "frames": found.frames, **found.row()})
        data.append({"system": bundle.name, "left": found.left.tolist(), "scatter": found.scatter.tolist()})
    counts = [*map(str, BEST), "all"]
    kept = len(utterances) - left_out
    return Page(
        "foretell",
        "What is foretold of recorded speech",
        f"{kept} recordings ({left_out} left out: longer than the network's positions, or over before their text is "
        f"read), {samples} samples of each frame, the network reading the truth.",
        [
            Column("system", "checkpoint"),
            Column("frames", "frames"),
            *(Column(f"left_{count}", f"left, {_named(count)}", ".3f") for count in counts),
            *(Column(f"scatter_{count}", f"scatter, {_named(count)}", ".3f") for count in counts),
        ],
        rows,
        notes=[
            "Shares of the variance along directions of latent space: what the mean of the samples leaves of the truth "
            "(the mean's own variance taken off), and the variance of the samples. The directions are those of the "
            f"training's metric for {bundles[0].name} on these frames, the best-foretold first."
        ],
        settings={"seed": seed, "samples": samples},
        data=data,
    )


def _named(count: str) -> str:
    return "all" if count == "all" else f"best {count}"
