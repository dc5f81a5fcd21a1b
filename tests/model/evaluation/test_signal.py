"""Faults put into a clean tone are found, and nothing is found in the clean one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sled_tts.model.evaluation.signal import inspect

RATES = [16_000, 24_000]


def _tone(rate: int, peak: float = 0.5) -> npt.NDArray[np.float32]:
    time = np.arange(rate) / rate
    return (peak * np.sin(2 * np.pi * 220 * time)).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_a_clean_tone_has_no_fault(rate: int) -> None:
    report = inspect(_tone(rate), rate)
    assert report.duration_s == 1.0
    assert report.peak == pytest.approx(0.5, abs=1e-3)
    assert report.rms == pytest.approx(0.5 / 2**0.5, abs=1e-3)
    assert report.clipped_share == 0
    assert report.clicks == 0


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("faults", [1, 3])
def test_clicks_are_counted(rate: int, faults: int) -> None:
    wave = _tone(rate, 0.2)
    for index in range(faults):
        # A jump that stays is one step; a lone sample would be two.
        wave[rate // 4 * (index + 1) + 7 :] += 0.45 * (-1) ** index
    assert inspect(wave, rate).clicks == faults


@pytest.mark.parametrize("rate", RATES)
def test_silence_at_the_edges_is_measured(rate: int) -> None:
    wave = np.concatenate([np.zeros(rate // 2, np.float32), _tone(rate), np.zeros(rate // 4, np.float32)])
    report = inspect(wave, rate)
    assert report.leading_silence_s == pytest.approx(0.5, abs=0.002)
    assert report.trailing_silence_s == pytest.approx(0.25, abs=0.002)


def test_clipping_is_a_share() -> None:
    wave = np.clip(_tone(16_000, 2.0), -1, 1)
    # A sine of twice the range is outside it for two thirds of the time.
    assert inspect(wave, 16_000).clipped_share == pytest.approx(2 / 3, abs=0.01)


def test_nothing_and_silence() -> None:
    nothing = inspect(np.zeros(0, np.float32), 16_000)
    assert (nothing.duration_s, nothing.peak, nothing.clicks) == (0.0, 0.0, 0)
    silent = inspect(np.zeros(8_000, np.float32), 16_000)
    assert silent.leading_silence_s == 0.5
    assert silent.trailing_silence_s == 0.0
    assert silent.rms == 0
