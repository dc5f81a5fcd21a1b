"""The monotone way through looks against every monotone way there is, and what it does with glances elsewhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sled_tts.model.text_path import _ADVANCE, _FLOOR, TextPath


def looks_of(path: list[int], tokens: int, sharp: float) -> np.ndarray:
    made = np.full((len(path), tokens), (1 - sharp) / tokens, np.float32)
    made[np.arange(len(path)), path] += sharp
    return made


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_best_of_all_monotone_ways(seed: int) -> None:
    rng = np.random.default_rng(seed)
    looks = rng.dirichlet(np.full(5, 0.4), 6).astype(np.float32)
    path = TextPath(opens=1)
    for look in looks:
        path.see(look)

    def worth(way: tuple[int, ...]) -> float:
        steps = np.diff(way)
        if way[0] > 1 or steps.min() < 0 or steps.max() >= len(_ADVANCE):
            return -np.inf
        return float(_ADVANCE[steps].sum() + np.log(looks[np.arange(6), list(way)] + _FLOOR).sum())

    best = max(itertools.product(range(5), repeat=6), key=worth)
    assert path.at == best[-1]
    for token in range(best[-1] + 1):
        assert path.reached(token) == next(k for k, at in enumerate(best) if at >= token)
    assert path.reached(best[-1] + 1) is None


def test_text_that_is_read_later_and_a_glance_ahead_that_is_taken_back() -> None:
    truth = [0] * 4 + [1] * 5 + [2] * 3 + [3] * 4 + [4] * 4
    whole = looks_of(truth, 5, 0.9)
    whole[5] = looks_of([2], 5, 0.9)
    path = TextPath()
    for frame, look in enumerate(whole):
        path.see(look if frame >= 6 else look[:3] / look[:3].sum())
    assert [path.reached(token) for token in range(5)] == [0, 4, 9, 12, 16]
    assert path.frames == 20


def test_nothing_has_been_reached_before_anything_was_seen() -> None:
    assert TextPath().at == -1
    assert TextPath().reached(0) is None
