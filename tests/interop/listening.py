"""Judging what a client got: length, level, and whether the recogniser tells the paragraph from others."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt

from sled_tts.model.evaluation.recognition import ClosedSet, arctic_prompts, to_recogniser, words

Wave = npt.NDArray[np.float32]
_SENTENCES = 3
_CANDIDATES = 60
# Seconds a character of English takes, very fast to very slow.
_PACE = (0.035, 0.16)


@cache
def paragraphs() -> tuple[str, ...]:
    """Prompts in threes; the first ones hold sentences that the built-in voice was not trained on."""
    prompts = arctic_prompts()
    starts = range(0, len(prompts) - _SENTENCES, _SENTENCES)
    return tuple(" ".join(prompts[start : start + _SENTENCES]) for start in starts)


def paragraph(number: int) -> str:
    """One whose words the recogniser's dictionary has."""
    return _closed().candidates[number]


@cache
def _closed() -> ClosedSet:
    return replace(ClosedSet.of([], paragraphs(), _CANDIDATES), patient=True)


def from_int16(pcm: bytes) -> Wave:
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32767


def assert_spoken(wave: Wave, rate: int, text: str) -> None:
    """Sound of about the right length, not clipped, that is heard as `text` among all other paragraphs."""
    seconds = wave.size / rate
    assert _PACE[0] * len(text) < seconds < _PACE[1] * len(text), f"{seconds:.2f} s for {len(text)} characters"
    assert np.isfinite(wave).all()
    peak = float(np.abs(wave).max())
    assert 0.05 < peak < 0.999, f"peak {peak:.3f}"
    assert _closed().recognise(to_recogniser(wave, rate)) == words(text)
