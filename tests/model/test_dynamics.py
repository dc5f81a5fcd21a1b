"""Gains by the level of a band: what lies far below it is turned down; levels become a recording's."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from sled_tts.model.checkpoint import BUILT_IN, load_bundle, resolve
from sled_tts.model.errors import CheckpointError
from sled_tts.model.melody.dynamics import Dynamics, DynamicsStream, levels, smoothed, spectra_of
from sled_tts.model.melody.envelope import Envelope
from sled_tts.model.melody.expanding import Expansion, expansion_from
from sled_tts.model.melody.likening import likened
from sled_tts.model.melody.register import Register
from sled_tts.model.training.expansion_levels import main
from tests.model.test_melody import HOP, RATE, noise, small_melody, spoken

WINDOW = 256
BANDS = WINDOW // 2 + 1


def expansion(level_db: float, **changes: float) -> Expansion:
    return Expansion(np.full(BANDS, level_db, np.float32), **changes)


def tone(hz: float, frames: int, loud: float) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hz * np.arange(frames * HOP) / RATE)).astype(np.float32)


def heard(how: Dynamics, wave: np.ndarray) -> np.ndarray:
    return DynamicsStream(how, HOP).push(wave, final=True)


def shelf() -> Dynamics:
    """Quiet sounds gain, loud ones lose, in narrow windows."""
    loud = np.repeat(np.array([[-50.0], [-10.0], [10.0]], np.float32), 41, axis=1)
    return Dynamics(loud, np.repeat(np.array([[9.0], [0.0], [-6.0]], np.float32), 41, axis=1))


def tilted(seed: int) -> Envelope:
    return Envelope((0.02 * np.random.default_rng(seed).standard_normal((31, BANDS))).astype(np.float32))


def rms_db(wave: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.square(wave).mean()) + 1e-12))


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 30])
@pytest.mark.parametrize("how", [expansion(-120.0), expansion(40.0, slope=0.0)])
def test_what_is_loud_enough_stays_as_it_is(frames: int, how: Expansion) -> None:
    wave = noise(frames)
    np.testing.assert_allclose(heard(how.dynamics, wave), wave, atol=1e-6)


@pytest.mark.parametrize("slope", [0.5, 1.0])
def test_what_is_below_sinks_by_its_share(slope: float) -> None:
    """The tone is 20 dB further down than the threshold, so it sinks by 20 dB times the slope; as its neighbours are
    further down still, by a little more."""
    wave = tone(1000.0, 60, 0.1)
    loud = float(levels(spectra_of(wave, WINDOW)).max(axis=1).mean())
    quieter = heard(expansion(loud + 35.0, threshold_db=15.0, slope=slope).dynamics, wave)
    middle = slice(5 * HOP, -5 * HOP)
    assert -26 * slope < rms_db(quieter[middle]) - rms_db(wave[middle]) <= -20 * slope + 0.5


def test_bands_are_judged_by_themselves() -> None:
    """A loud tone keeps its level while noise elsewhere goes down."""
    loud, hiss = tone(1000.0, 60, 0.2), 0.01 * noise(60)
    at = np.full(BANDS, 0.0, np.float32)
    lowered = heard(Expansion(at, 15.0, 1.0).dynamics, loud + hiss)
    spectrum = np.abs(np.fft.rfft(lowered[5 * HOP : -5 * HOP]))
    before = np.abs(np.fft.rfft((loud + hiss)[5 * HOP : -5 * HOP]))
    hz = np.fft.rfftfreq(len(lowered) - 10 * HOP, 1 / RATE)
    near, far = np.abs(hz - 1000) < 20, hz > 3000
    assert spectrum[near].max() == pytest.approx(before[near].max(), rel=0.02)
    assert rms_db(spectrum[far]) < rms_db(before[far]) - 10


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 7), min_size=1, max_size=20),
    hop=st.sampled_from([160, 213, 320]),
    seed=st.integers(0, 1000),
    kind=st.integers(0, 2),
)
def test_chunks_have_the_bits_of_the_whole(cuts: list[int], hop: int, seed: int, kind: int) -> None:
    chosen = [expansion(25.0).dynamics, shelf(), replace(expansion(25.0).dynamics, envelope=tilted(seed))]
    rng, how = np.random.default_rng(seed), chosen[kind]
    frames = sum(cuts) + int(rng.integers(0, 3))
    wave = (rng.uniform(0.01, 0.5) * rng.standard_normal(frames * hop)).astype(np.float32)
    whole = DynamicsStream(how, hop).push(wave, final=True)
    live, parts, at = DynamicsStream(how, hop), [], 0
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
    told = np.concatenate(parts)
    assert len(parts[0]) == (20 - 2) * HOP
    assert np.array_equal(told[: 3 * HOP], shifted[: 3 * HOP]), "what nobody hears passes"
    want = heard(expansion(60.0).dynamics, shifted[3 * HOP :])
    assert np.array_equal(told[3 * HOP :], want)


def test_a_voice_of_its_own_replaces_the_checkpoints_expansion() -> None:
    wave, latents = spoken()
    melody = small_melody(expansion=expansion(60.0))
    plain = small_melody().begin(Register(180.0, 0.1), 0, rate=RATE, hop=HOP).push(wave, latents, True)
    own = melody.begin(Register(180.0, 0.1), 0, rate=RATE, hop=HOP, dynamics=shelf()).push(wave, latents, True)
    assert np.array_equal(own, heard(shelf(), plain))


def test_gains_are_read_off_curves() -> None:
    loud = np.array([[-90.0], [-50.0], [-30.0], [0.0], [90.0]], np.float32) * np.ones(41, np.float32)
    assert shelf().gains(loud)[:, 7].tolist() == [9.0, 9.0, 4.5, -3.0, -6.0]


def test_levels_that_are_one_are_a_step() -> None:
    """As the percentiles of digital silence are."""
    flat = Dynamics(np.full((3, 17), -100.0, np.float32), np.full((3, 17), [[0.0], [1.0], [2.0]], np.float32))
    gains = flat.gains(np.array([[-100.0], [-99.0]], np.float32) * np.ones(17, np.float32))
    assert gains[:, 0].tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("loud", "gained", "why"),
    [
        (np.zeros((2, 17)), np.zeros((2, 17), "f4"), "float32"),
        (np.zeros((2, 17), "f4"), np.zeros((3, 17), "f4"), "gains_db must be"),
        (np.zeros(17, "f4"), np.zeros(17, "f4"), "levels_db must be"),
        (np.zeros((1, 17), "f4"), np.zeros((1, 17), "f4"), "two or more rows"),
        (np.zeros((2, 16), "f4"), np.zeros((2, 16), "f4"), "multiple of 8"),
        (np.zeros((2, 17), "f4"), np.full((2, 17), np.nan, "f4"), "finite"),
        (np.zeros((2, 17), "f4"), np.full((2, 17), 1e4, "f4"), "within"),
        (np.full((2, 17), [[1.0], [0.0]], "f4"), np.zeros((2, 17), "f4"), "rise"),
    ],
)
def test_curves_that_are_none_are_refused(loud: np.ndarray, gained: np.ndarray, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Dynamics(loud, gained)


@pytest.mark.parametrize("envelope", [None, tilted(3)])
def test_levels_become_the_recordings(envelope: Envelope | None) -> None:
    """Noise in turns of loud and quiet, whose bass is weaker and whose quiet parts are quieter in the recording."""
    rng = np.random.default_rng(0)
    turns = np.repeat(np.tile([0.02, 0.2], 40), 800)
    said = (rng.standard_normal(len(turns)) * turns).astype(np.float32)
    spectrum = np.fft.rfft(rng.standard_normal(len(turns)) * np.where(turns < 0.1, 0.01, 0.2))
    spectrum[: len(spectrum) // 2] *= 0.3
    recorded = np.fft.irfft(spectrum, len(turns)).astype(np.float32)
    how = likened([said[: len(said) // 2], said[len(said) // 2 :]], recorded, envelope)
    assert how.envelope is envelope

    def told(wave: np.ndarray) -> np.ndarray:
        return np.percentile(smoothed(levels(spectra_of(wave, how.window))), [15, 35, 65, 85], axis=0)[:, 5:-5]

    want, got, before = told(recorded), told(heard(how, said)), told(said)
    assert np.abs(before - want).mean() > 5
    assert np.abs(got - want).mean() < 1.0
    assert envelope is not None or np.median(how.gains_db[:4, 5:50]) < -10


def test_the_noise_of_a_recordings_pauses_is_not_imitated() -> None:
    """A fifth of the time is a pause, with 20 dB more noise in the recording."""
    rng = np.random.default_rng(0)
    pause = np.repeat(np.tile([True, False, False, False, False], 20), 1600)
    speech = 0.2 * rng.standard_normal(len(pause))
    said, noisy = (np.where(pause, level * speech, speech).astype(np.float32) for level in (0.003, 0.03))
    told = [np.percentile(smoothed(levels(spectra_of(wave, WINDOW))), 10) for wave in (said, noisy)]
    assert told[1] - told[0] > 15
    assert np.abs(likened([said], noisy).gains_db[:, 2:-2]).max() < 5.0


def test_silence_is_like_nothing_and_breaks_nothing() -> None:
    silence = np.zeros(4000, np.float32)
    how = likened([noise(20)], silence)
    assert how.gains_db.min() == -20.0
    assert np.isfinite(heard(likened([silence], noise(20)), silence)).all()


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
    assert (melody.expansion.dynamics.window, melody.expansion.threshold_db) == (WINDOW, 12.0)
    voiced, hiss = melody.expansion.levels_db[3:12].mean(), melody.expansion.levels_db[100:].mean()
    assert voiced > hiss + 20
