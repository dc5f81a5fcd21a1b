"""Gains by all bands of a window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.envelope import MOST_DB, Envelope, cosines, into_cepstrum

BANDS = 129


def drawn(seed: int, rows: int = 7, size: float = 0.02) -> Envelope:
    return Envelope((size * np.random.default_rng(seed).standard_normal((rows, BANDS))).astype(np.float32))


def loud(seed: int, windows: int) -> np.ndarray:
    return (20 * np.random.default_rng(seed).standard_normal((windows, BANDS)) - 30).astype(np.float32)


def test_a_coefficient_gains_its_row_and_everything_the_last() -> None:
    rows = np.zeros((5, BANDS), np.float32)
    rows[2], rows[4] = 0.5, np.linspace(-1, 1, BANDS)
    windows = (3.0 * cosines(BANDS, 4)[2] + np.zeros((2, 1))).astype(np.float32)
    np.testing.assert_allclose(Envelope(rows).gains(windows), 1.5 + rows[4] + np.zeros((2, 1)), atol=1e-4)


@pytest.mark.parametrize("bands", [17, 129, 257])
def test_coefficients_are_those_of_the_cosines(bands: int) -> None:
    wanted = np.random.default_rng(0).standard_normal((6, 12))
    np.testing.assert_allclose(wanted @ cosines(bands, 12) @ into_cepstrum(bands, 12).T, wanted, atol=1e-4)


def test_nothing_gains_or_loses_more_than_the_most() -> None:
    gained = drawn(0, size=5.0).gains(loud(1, 4))
    assert gained.max() == MOST_DB
    assert gained.min() == -MOST_DB


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(1, 30), st.data())
def test_a_window_gains_the_same_bits_in_any_company(seed: int, windows: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, windows - 1))
    after = data.draw(st.integers(first + 1, windows))
    envelope, levels = drawn(seed, rows=31), loud(seed, windows)
    assert np.array_equal(envelope.gains(levels)[first:after], envelope.gains(levels[first:after]))
    assert envelope.gains(levels).dtype == np.float32


def test_curves_are_read_off_what_the_envelope_has_moved() -> None:
    steps = np.repeat(np.array([[-50.0], [0.0]], np.float32), BANDS, axis=1)
    rows = np.zeros((2, BANDS), np.float32)
    rows[1] = 3.0
    how = Dynamics(steps, np.repeat(np.array([[0.0], [5.0]], np.float32), BANDS, axis=1), Envelope(rows))
    assert how.gains(np.full((1, BANDS), -35.0, np.float32))[0, 7] == pytest.approx(3.0 + 1.8)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (np.zeros((3, 17)), "float32"),
        (np.zeros(17, "f4"), "float32"),
        (np.zeros((1, 17), "f4"), "float32"),
        (np.zeros((18, 17), "f4"), "float32"),
        (np.full((3, 17), np.inf, "f4"), "not finite"),
    ],
)
def test_what_is_no_envelope_is_refused(rows: np.ndarray, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Envelope(rows)


def test_curves_and_envelope_must_have_the_same_bands() -> None:
    steps = np.zeros((2, 17), np.float32)
    with pytest.raises(ValueError, match=r"129 bands.*17"):
        Dynamics(steps, steps, drawn(0))
