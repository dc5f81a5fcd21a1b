"""Sentences to say."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np

from sled_tts.model.errors import ModelError


def arctic_prompts() -> list[str]:
    """The CMU Arctic prompts (public domain) that come with the package."""
    text = resources.files("sled_tts.model.evaluation").joinpath("prompts/arctic.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line]


def new_sentences(prompts: Sequence[str], count: int, seed: int, longest: int | None = 80) -> list[str]:
    """Sentences that nobody has read: the first half of one prompt and the second half of another. ModelError when
    the prompts are too few for `count` different ones."""
    halves = [words for line in prompts if len(words := line.split()) >= 6]
    rng = np.random.default_rng(seed)
    made: dict[str, None] = {}
    for _ in range(20 * count):
        if len(made) == count:
            break
        first, second = (halves[i] for i in rng.integers(len(halves), size=2))
        text = " ".join([*first[: len(first) // 2], *second[len(second) // 2 :]])
        if text not in prompts and (longest is None or len(text) <= longest):
            made[text] = None
    if len(made) < count:
        raise ModelError(f"{len(prompts)} prompts give only {len(made)} new sentences", param="count")
    return list(made)
