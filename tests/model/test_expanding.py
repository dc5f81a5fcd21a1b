"""What lies far below the level of its band is turned down, and only that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from sled_tts.model.checkpoint import BUILT_IN, load_bundle, resolve
from sled_tts.model.errors import CheckpointError
from sled_tts.model.melody.expanding import Expander, Expansion, expansion_from, levels, spectra_of
from sled_tts.model.melody.register import Register
from sled_tts.model.training.expansion_levels import main
from tests.model.test_melody import HOP, RATE, noise, small_melody, spoken

WINDOW = 256
BANDS = WINDOW // 2 + 1


def expansion(level_db: float, **changes: float) -> Expansion:
    return Expansion(np.full(BANDS, level_db, np.float32), **changes)


def tone(hz: float, frames: int, loud: float) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hz * np.arange(frames * HOP) / RATE)).astype(np.float32)


def rms_db(wave: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.square(wave).mean()) + 1e-12))


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 30])
@pytest.mark.parametrize("how", [expansion(-120.0), expansion(40.0, slope=0.0)])
def test_what_is_loud_enough_stays_as_it_is(frames: int, how: Expansion) -> None:
    wave = noise(frames)
    np.testing.assert_allclose(Expander(how, HOP).push(wave, final=True), wave, atol=1e-6)


@pytest.mark.parametrize("slope", [0.5, 1.0])
def test_what_is_below_sinks_by_its_share(slope: float) -> None:
    """The tone is 20 dB further down than the threshold, so it sinks by 20 dB times the slope; as its neighbours are
    further down still, by a little more."""
    wave = tone(1000.0, 60, 0.1)
    loud = float(levels(spectra_of(wave, WINDOW)).max(axis=1).mean())
    quieter = Expander(expansion(loud + 35.0, threshold_db=15.0, slope=slope), HOP).push(wave, final=True)
    middle = slice(5 * HOP, -5 * HOP)
    assert -26 * slope < rms_db(quieter[middle]) - rms_db(wave[middle]) <= -20 * slope + 0.5


def test_bands_are_judged_by_themselves() -> None:
    """A loud tone keeps its level while noise elsewhere goes down."""
    loud, hiss = tone(1000.0, 60, 0.2), 0.01 * noise(60)
    at = np.full(BANDS, 0.0, np.float32)
    heard = Expander(Expansion(at, 15.0, 1.0), HOP).push(loud + hiss, final=True)
    spectrum = np.abs(np.fft.rfft(heard[5 * HOP : -5 * HOP]))
    before = np.abs(np.fft.rfft((loud + hiss)[5 * HOP : -5 * HOP]))
    hz = np.fft.rfftfreq(len(heard) - 10 * HOP, 1 / RATE)
    kept, lowered = np.abs(hz - 1000) < 20, hz > 3000
    assert spectrum[kept].max() == pytest.approx(before[kept].max(), rel=0.02)
    assert rms_db(spectrum[lowered]) < rms_db(before[lowered]) - 10


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 7), min_size=1, max_size=20),
    hop=st.sampled_from([160, 213, 320]),
    seed=st.integers(0, 1000),
)
def test_chunks_have_the_bits_of_the_whole(cuts: list[int], hop: int, seed: int) -> None:
    rng, how = np.random.default_rng(seed), expansion(25.0)
    frames = sum(cuts) + int(rng.integers(0, 3))
    wave = (rng.uniform(0.01, 0.5) * rng.standard_normal(frames * hop)).astype(np.float32)
    whole = Expander(how, hop).push(wave, final=True)
    live, parts, at = Expander(how, hop), [], 0
    for cut in cuts:
        parts.append(live.push(wave[at * hop : (at + cut) * hop], final=False))
        at += cut
        assert sum(map(len, parts)) == max(0, at * hop - live.delay)
    parts.append(live.push(wave[at * hop :], final=True))
    assert np.array_equal(np.concatenate(parts), whole)
    assert len(whole) == len(wave)
    assert not np.allclose(whole, wave, atol=1e-4) or not frames


def test_a_melody_expands_what_it_has_shifted() -> None:
    wave, latents = spoken()
    plain, quiet = (
        small_melody(expansion=how).begin(Register(180.0, 0.1), 0, rate=RATE, hop=HOP, skip=3)
        for how in (None, expansion(60.0))
    )
    shifted = plain.push(wave, latents, final=True)
    parts = [quiet.push(wave[: 20 * HOP], latents[:20], False), quiet.push(wave[20 * HOP :], latents[20:], True)]
    heard = np.concatenate(parts)
    assert len(parts[0]) == (20 - 2) * HOP
    assert np.array_equal(heard[: 3 * HOP], shifted[: 3 * HOP]), "what nobody hears passes"
    want = Expander(expansion(60.0), HOP).push(shifted[3 * HOP :], final=True)
    assert np.array_equal(heard[3 * HOP :], want)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ([1.0], "must be a table"),
        ({"levels_db": [0.0] * 5}, "W / 2"),
        ({"levels_db": [0.0] * 128}, "W / 2"),
        ({"levels_db": [float("nan")] * 129}, "finite"),
        ({"levels_db": [0.0] * 129, "slope": 9.0}, "slope"),
        ({"levels_db": [0.0] * 129, "threshold_db": -1.0}, "threshold_db"),
        ({"levels_db": [0.0] * 129, "deep": 1.0}, "unknown key deep"),
        ({"levels_db": "loud"}, "could not"),
    ],
)
def test_a_wrong_entry_is_refused_and_named(tmp_path: Path, entry: object, why: str) -> None:
    with pytest.raises((ValueError, TypeError), match=why):
        expansion_from(entry)
    shutil.copytree(resolve(BUILT_IN), tmp_path / "model")
    path = tmp_path / "model" / "sled_tts.json"
    told = json.loads(path.read_text())
    told["melody"]["expansion"] = entry
    path.write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=why):
        load_bundle(str(tmp_path / "model"))


def test_levels_are_measured_and_written(tmp_path: Path) -> None:
    shutil.copytree(resolve(BUILT_IN), tmp_path / "model")
    app = Typer()
    app.command()(main)
    done = CliRunner().invoke(app, [str(tmp_path / "model"), "--count", "1", "--threshold-db", "12", "--write"])
    assert done.exit_code == 0, done.output
    melody = load_bundle(str(tmp_path / "model")).extras.melody
    assert melody is not None
    assert melody.expansion is not None
    assert (melody.expansion.window, melody.expansion.threshold_db) == (WINDOW, 12.0)
    voiced, hiss = melody.expansion.levels_db[3:12].mean(), melody.expansion.levels_db[100:].mean()
    assert voiced > hiss + 20
