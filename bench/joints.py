"""What can be heard at one place of a recording: silence, a jump of level, a click, a change of voice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sled_tts.model.evaluation.recognition import Wave

_HOP_S = 0.01
_QUIET_DB = 34.0
_LEVEL_S, _VOICE_S = 1.0, 4.0
_CLICK_S, _ROUND_S = 0.002, 0.25


@dataclass(frozen=True)
class Joint:
    """`silence_s` around the place; `level_jump_db` of the speech in the second after it over that before; `click_db`:
    energy above about a third of the band in the 2 ms at the place, over the loudest such 2 ms within a quarter second
    of it (above 0 the place itself is the sharpest thing around)."""

    silence_s: float
    level_jump_db: float
    click_db: float


def inspect_joint(wave: Wave, rate: int, at: int) -> Joint:
    """`wave [N]`; the sample `at` is the first after the joint."""
    levels = _levels(wave, rate)
    hop = round(_HOP_S * rate)
    loud = levels > levels.max() - _QUIET_DB
    return Joint(
        _silence(loud, min(at // hop, len(loud) - 1)) * _HOP_S, _jump(levels, loud, at / hop), _click(wave, rate, at)
    )


def around(wave: Wave, rate: int, at: int) -> tuple[Wave, Wave]:
    """Speech before and after the place, as much as a judge of voices needs."""
    size = round(_VOICE_S * rate)
    return wave[max(0, at - size) : at], wave[at : at + size]


def _levels(wave: Wave, rate: int) -> npt.NDArray[np.float64]:
    """dB below full scale, every 10 ms."""
    hop = round(_HOP_S * rate)
    frames = wave[: len(wave) // hop * hop].reshape(-1, hop).astype(np.float64)
    levels: npt.NDArray[np.float64] = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    return levels


def _silence(loud: npt.NDArray[np.bool_], at: int) -> int:
    """Quiet frames in a row around frame `at`."""
    sounding = np.flatnonzero(loud)
    before, after = sounding[sounding < at], sounding[sounding >= at]
    first = int(before[-1]) + 1 if before.size else 0
    last = int(after[0]) if after.size else len(loud)
    return last - first


def _jump(levels: npt.NDArray[np.float64], loud: npt.NDArray[np.bool_], at: float) -> float:
    size, place = round(_LEVEL_S / _HOP_S), round(at)
    sounding = np.flatnonzero(loud)
    before, after = sounding[sounding < place][-size:], sounding[sounding >= place][:size]
    if not before.size or not after.size:
        return 0.0
    power = 10 ** (levels / 10)
    return float(10 * np.log10(power[after].mean() / power[before].mean()))


def _click(wave: Wave, rate: int, at: int) -> float:
    size, reach = round(_CLICK_S * rate), round(_ROUND_S * rate)
    begin = max(0, at - reach)
    # Second differences weigh high frequencies: a step or a kink stands out, a vowel hardly does.
    sharp = np.diff(wave[begin : at + reach].astype(np.float64), n=2) ** 2
    energy = np.convolve(sharp, np.ones(size), mode="valid")
    centre = at - begin
    here = energy[max(0, centre - size) : centre + 1]
    elsewhere = np.concatenate([energy[: max(0, centre - 2 * size)], energy[centre + size :]])
    if not here.size or not elsewhere.size:
        return float("-inf")
    return float(10 * np.log10((here.max() + 1e-14) / (elsewhere.max() + 1e-14)))
