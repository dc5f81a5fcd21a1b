"""Moments of one recording found in another, whatever its pace and pauses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sled_tts.model.time_warping import STEP_S, Float32, Sounding, corresponding

RATE = 16_000


def sounds(lengths_s: list[float], pauses_s: list[float], seed: int, gain: float = 0.1) -> Float32:
    """Sounds of different formants, the k-th as long as told, each followed by a pause."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, (length, pause) in enumerate(zip(lengths_s, pauses_s, strict=True)):
        count = round(length * RATE)
        spectrum = np.fft.rfft(rng.standard_normal(count))
        hz = np.fft.rfftfreq(count, 1 / RATE)
        shape = sum(np.exp(-(((hz - centre) / 200) ** 2)) for centre in (400 + 310 * (k * 3 % 5), 2000 + 900 * (k % 4)))
        wave = np.fft.irfft(spectrum * shape, count)
        parts += [gain * wave / wave.std(), 1e-5 * rng.standard_normal(round(pause * RATE))]
    return np.concatenate(parts).astype(np.float32)


def borders(lengths_s: list[float]) -> list[int]:
    return [round(at / STEP_S) for at in np.cumsum(lengths_s)[:-1]]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.15, 0.5), st.floats(0.6, 1.6), st.floats(0.0, 0.6)), min_size=3, max_size=7),
    st.integers(0, 1000),
)
def test_borders_are_found_at_another_pace_with_other_pauses(told: list[tuple[float, float, float]], seed: int) -> None:
    lengths, slower = [length for length, _, _ in told], [length * pace for length, pace, _ in told]
    said = Sounding.of(sounds(lengths, [0.0] * len(told), seed), RATE)
    recorded = Sounding.of(sounds(slower, [pause for _, _, pause in told], seed + 1, gain=0.02), RATE)
    found = corresponding(said, recorded, borders(lengths))
    before = np.cumsum(slower) + np.cumsum([0.0, *(pause for _, _, pause in told)])[:-1]
    right = np.searchsorted(recorded.steps, before[:-1] / STEP_S)
    assert np.abs(np.array(found) - right).max() <= 7


def test_parts_one_after_another_are_the_whole_without_its_pauses() -> None:
    lengths = [0.3, 0.4, 0.2]
    parts = [Sounding.of(sounds([length, 0.2], [0.3, 0.2], 3), RATE) for length in lengths]
    whole = Sounding.one_after_another(parts)
    assert len(whole.steps) == sum(len(part.steps) for part in parts) == len(whole.cepstra)
    assert (np.diff(whole.steps) == 1).all()
    assert all(np.diff(part.steps).max() > 25 for part in parts), "each had one"


def test_how_loud_and_through_what_it_was_recorded_makes_no_difference() -> None:
    lengths = [0.3, 0.25, 0.4, 0.2]
    said = Sounding.of(sounds(lengths, [0.0] * 4, 5), RATE)
    other = sounds(lengths, [0.1] * 4, 6)
    dull = np.convolve(other, [0.5, 0.5])[: len(other)].astype(np.float32) * np.float32(0.05)
    plain, muffled = (corresponding(said, Sounding.of(wave, RATE), borders(lengths)) for wave in (other, dull))
    assert np.abs(np.array(plain) - muffled).max() <= 3


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="300 samples at 16000 Hz are too few"):
        Sounding.of(np.ones(300, np.float32), RATE)
    fine = Sounding.of(sounds([0.3], [0.0], 1), RATE)
    silent = Sounding(fine.steps[:1], fine.cepstra[:1])
    for pair in ((fine, silent), (silent, fine)):
        with pytest.raises(ValueError, match="nothing sounds"):
            corresponding(*pair, [1])
