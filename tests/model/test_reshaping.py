"""Resonances that are elsewhere, found from moments at which two voices say the same."""

from __future__ import annotations

import numpy as np
import pytest

from sled_tts.model.melody.envelope import cosines, into_cepstrum
from sled_tts.model.melody.reshaping import LEAST_MOMENTS, reshaped, stretch_of

BANDS = 129
BINS = np.arange(BANDS)


def vowels(stretch: float, moments: int = 400, seed: int = 0) -> np.ndarray:
    """Levels `[moments, BANDS]` with three resonances that wander, at `stretch` times their frequency, and noise."""
    rng, chance = np.random.default_rng(seed), np.random.default_rng(round(1000 * stretch))
    loud = np.full((moments, BANDS), -40.0)
    for middle, width in ((9.0, 3.0), (26.0, 5.0), (46.0, 7.0)):
        walk = middle * (1 + 0.15 * np.sin(np.cumsum(rng.uniform(0.0, 0.6, moments))))
        loud += 25 * np.exp(-(((BINS / stretch - walk[:, None]) / width) ** 2))
    return (loud + chance.normal(0.0, 1.0, loud.shape)).astype(np.float32)


def found_stretch(said: np.ndarray, recorded: np.ndarray) -> float:
    into = into_cepstrum(BANDS, 30)
    return stretch_of(said @ into.T, recorded @ into.T, cosines(BANDS, 30))


@pytest.mark.parametrize("stretch", [0.88, 0.95, 1.0, 1.07, 1.13])
def test_the_length_of_the_vocal_tract_is_found(stretch: float) -> None:
    assert found_stretch(vowels(1.0), vowels(stretch)) == pytest.approx(stretch, abs=0.02)


def test_the_room_and_the_level_are_no_vocal_tract() -> None:
    """An equaliser, and twice the dynamics."""
    recorded = 2 * vowels(1.0) + 12 * np.sin(BINS / 9).astype(np.float32)
    assert found_stretch(vowels(1.0), recorded) == pytest.approx(1.0, abs=0.02)


def test_beyond_what_people_are_is_not_believed() -> None:
    assert found_stretch(vowels(1.0), vowels(1.5)) <= 1.16
    assert found_stretch(vowels(1.3), vowels(0.8)) >= 0.84


@pytest.mark.parametrize("stretch", [0.9, 1.1])
def test_resonances_move_to_where_the_recording_has_them(stretch: float) -> None:
    """Also of what was not said when it was found."""
    found = reshaped(vowels(1.0), vowels(stretch))
    said, wanted = vowels(1.0, seed=7), vowels(stretch, seed=7)
    missing, gained = ((loud - loud.mean())[:, 4:60] for loud in (wanted - said, found.gains(said)))
    assert np.corrcoef(missing.ravel(), gained.ravel())[0, 1] > 0.7


def test_who_says_it_as_it_was_recorded_is_left_alone() -> None:
    same = vowels(1.0)
    assert np.abs(reshaped(same, same).gains(same)).max() < 1.5


def test_silence_and_constants_invent_nothing() -> None:
    flat = np.full((200, BANDS), -100.0, np.float32)
    for said, recorded in ((flat, flat), (vowels(1.0, 200), flat), (flat, vowels(1.0, 200))):
        assert np.isfinite(reshaped(said, recorded).gains_db).all()


def test_too_few_moments_tell_nothing() -> None:
    with pytest.raises(ValueError, match=f"119 and 119 moments, {LEAST_MOMENTS} pairs"):
        reshaped(vowels(1.0, 119), vowels(1.0, 119))
    with pytest.raises(ValueError, match="400 and 300"):
        reshaped(vowels(1.0), vowels(1.0, 300))
