"""Corrections of the latents that a network writes in a cloned voice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sled_tts.model.calibration import LEAST_FRAMES, Calibration, Opening, match, voiced_frames
from sled_tts.model.checkpoint import BUILT_IN, ModelBundle, load_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.quantization import Precision
from sled_tts.model.references import Recorded, calibrate
from sled_tts.model.speaking import sound_of


def drawn(frames: int, mean: float, spread: float, seed: int, mixed: float = 0.0) -> np.ndarray:
    """Independent dimensions, or each `mixed` with all."""
    values = np.random.default_rng(seed).normal(0.0, spread, (frames, 3))
    return np.asarray(mean + values + mixed * values.sum(axis=1, keepdims=True), dtype=np.float32)


def applied(found: Calibration, latents: np.ndarray) -> np.ndarray:
    return np.asarray(latents @ found.turn.T + found.shift)


def test_the_mean_becomes_the_recordings_and_the_covariance_half() -> None:
    written, recorded = drawn(400, 2.0, 1.0, 0), drawn(300, -1.0, 1.1, 1, mixed=0.25)
    found = match(written, recorded)
    np.testing.assert_allclose(applied(found, written).mean(axis=0), recorded.mean(axis=0), atol=1e-4)
    # The other half of the way, but for the ridge.
    whole = written @ (2 * found.turn - np.eye(3, dtype=np.float32)).T
    np.testing.assert_allclose(np.cov(whole.T), np.cov(recorded.T), rtol=0.05, atol=0.05)
    assert np.cov(recorded.T)[0, 1] > 0.5 > abs(np.cov(written.T)[0, 1])


def test_what_is_as_recorded_stays_as_it_is() -> None:
    """Of all maps that give mean and covariance, the one that moves least."""
    same = drawn(400, 1.0, 0.7, 0, mixed=0.5)
    found = match(same, same)
    np.testing.assert_allclose(found.turn, np.eye(3), atol=1e-4)
    np.testing.assert_allclose(found.shift, 0.0, atol=1e-3)


@pytest.mark.parametrize(("spread", "stretch"), [(9.0, 1.75), (0.01, 0.7)])
def test_spreads_far_apart_are_brought_together_in_part(spread: float, stretch: float) -> None:
    written, recorded = drawn(400, 0.0, 1.0, 0), drawn(400, 5.0, spread, 1)
    found = match(written, recorded)
    np.testing.assert_allclose(np.linalg.eigvalsh(found.turn), stretch, rtol=1e-5)
    np.testing.assert_allclose(applied(found, written).mean(axis=0), recorded.mean(axis=0), atol=1e-3)


def test_directions_that_few_frames_do_not_show_are_not_invented() -> None:
    """Fewer frames than dimensions have no variance in most directions."""
    rng = np.random.default_rng(0)
    written, recorded = (rng.normal(0.0, 1.0, (LEAST_FRAMES, 80)).astype(np.float32) for _ in range(2))
    stretch = np.linalg.eigvalsh(match(written, recorded).turn)
    assert stretch.min() >= 0.7 - 1e-4
    assert stretch.max() <= 1.75 + 1e-4


def test_a_network_that_always_writes_the_same_is_not_divided_by_zero() -> None:
    found = match(np.ones((400, 3), np.float32), drawn(400, 5.0, 1.0, 1))
    assert np.isfinite(found.stacked()).all()


def test_too_little_speech_tells_nothing() -> None:
    for written, recorded in ((LEAST_FRAMES - 1, 400), (400, LEAST_FRAMES - 1), (0, 400)):
        with pytest.raises(ModelError, match=f"too few.*{LEAST_FRAMES} are needed"):
            match(drawn(written, 0.0, 1.0, 0), drawn(recorded, 0.0, 1.0, 1))


def test_frames_that_are_nearly_silent_do_not_count() -> None:
    latents = drawn(10, 0.0, 1.0, 0)
    wave = np.repeat(np.where(np.arange(10) % 2, 0.1, 0.002), 8).astype(np.float32)
    assert np.array_equal(voiced_frames(latents, wave), latents[1::2])


def curves(step: float = -2.0) -> Dynamics:
    loud = np.repeat(np.array([[-60.0], [-20.0], [0.0]], np.float32), 17, axis=1)
    return Dynamics(loud, np.full_like(loud, step))


@pytest.mark.parametrize("opening", [None, Opening(140, 23)])
@pytest.mark.parametrize("dynamics", [None, curves()])
def test_a_calibration_travels_as_arrays_and_is_checked(dynamics: Dynamics | None, opening: Opening | None) -> None:
    found = replace(match(drawn(400, 0.0, 1.0, 0), drawn(400, 1.0, 1.0, 1)), dynamics=dynamics, opening=opening)
    kept = found.arrays()
    assert all(value.ndim == 2 for value in kept.values())
    again = Calibration.of(kept)
    assert np.array_equal(again.stacked(), found.stacked())
    assert (again.dynamics is None) == (dynamics is None)
    assert again.opening == opening
    assert all(np.array_equal(value, kept[name]) for name, value in again.arrays().items())
    fine = np.ones(3, np.float32)
    for values in (np.ones((4, 4), "f4"), np.ones((2, 4), "f4"), np.ones(4, "f4"), np.full((5, 4), np.nan, "f4")):
        with pytest.raises(ValueError, match="calibration"):
            Calibration.of(kept | {"correction": values})
    for wrong, why in (({"levels_db": np.ones((2, 17), "f4")}, "both"), ({}, "calibration")):
        with pytest.raises(ValueError, match=why):
            Calibration.of(({} if not wrong else {"correction": kept["correction"]}) | wrong)
    for odd in ([[1.5, 2.0]], [[1.0]], [[0.0, 4.0]], [[np.nan, 4.0]]):
        with pytest.raises(ValueError, match="opening"):
            Calibration.of(kept | {"opening": np.array(odd, np.float32)})
    with pytest.raises(ValueError, match="turn of a calibration"):
        Calibration(np.ones((3, 4), np.float32), fine)
    with pytest.raises(ValueError, match=r"turn of a calibration.*float64"):
        Calibration(np.eye(3), fine)


def recorded_of(bundle: ModelBundle, latents: np.ndarray, **changes: Any) -> Recorded:
    """As if the built-in voice had been recorded with these latents."""
    voice = bundle.extras.voices[0]
    wave = sound_of(bundle, torch.from_numpy(latents), voice.register)
    return replace(Recorded(latents, voice.text, wave, voice.register), **changes)


def test_the_built_in_voice_is_listened_to_and_brought_nearer_to_another_one() -> None:
    """As if a voice had been recorded whose latents lie beside those that the network writes after it."""
    bundle = load_bundle(BUILT_IN)
    voice = bundle.extras.voices[0]
    given = voice.latents.float().numpy()
    found = calibrate(bundle, recorded_of(bundle, given))
    dimension = bundle.codec.config.dimension
    assert found.turn.shape == (dimension, dimension)
    assert np.array_equal(found.stacked(), calibrate(bundle, recorded_of(bundle, given)).stacked())
    # The same speech, each latent moved: so far must it be moved back.
    moved = calibrate(bundle, recorded_of(bundle, given + np.float32(0.02)))
    assert float(np.mean(moved.shift - found.shift)) > 0


def test_the_loudness_of_a_recording_is_imitated_where_there_is_a_melody() -> None:
    """The same recording with less treble, then without a pitch, then for a checkpoint without a melody."""
    bundle = load_bundle(BUILT_IN)
    given = recorded_of(bundle, bundle.extras.voices[0].latents.float().numpy())
    spectrum = np.fft.rfft(given.wave)
    spectrum[len(spectrum) // 2 :] *= 0.25
    dull = replace(given, wave=np.fft.irfft(spectrum, len(given.wave)).astype(np.float32))
    as_it_is, duller = calibrate(bundle, given).dynamics, calibrate(bundle, dull).dynamics
    assert as_it_is is not None
    assert duller is not None
    change = (duller.gains_db - as_it_is.gains_db)[4]
    # The whole becomes a little louder, since a recording is brought to one level.
    np.testing.assert_allclose(change[70:120], -12.0, atol=1.5)
    np.testing.assert_allclose(change[2:58], 0.0, atol=1.5)
    assert calibrate(bundle, replace(given, register=None)).dynamics is None
    assert calibrate(bundle.without_melody(), given).dynamics is None


def test_a_network_in_half_precision_is_listened_to_as_well() -> None:
    """As on a GPU, where a prompt comes in another precision and from another device."""
    bundle, half = load_bundle(BUILT_IN), load_bundle(BUILT_IN, dtype=torch.bfloat16)
    voice = bundle.extras.voices[0]
    given = voice.latents.float().numpy()
    exact, found = calibrate(bundle, recorded_of(bundle, given)), calibrate(half, recorded_of(half, given))
    assert found.turn.dtype == np.float32
    np.testing.assert_allclose(found.turn, exact.turn, atol=0.3)


def test_a_packed_network_without_its_first_weights_is_listened_to_as_well() -> None:
    """As the server holds it."""
    bundle = load_bundle(BUILT_IN)
    voice = bundle.extras.voices[0]
    given = voice.latents.float().numpy()
    exact = calibrate(bundle, recorded_of(bundle, given))
    bundle.sled.prepare_for_inference(Precision.FP32)
    bundle.sled.release_weights()
    found = calibrate(bundle, recorded_of(bundle, given))
    np.testing.assert_allclose(found.stacked(), exact.stacked(), atol=1e-3)


def test_a_recording_that_fills_all_positions_leaves_no_room_to_listen() -> None:
    bundle = load_bundle(BUILT_IN)
    bundle = replace(bundle, extras=replace(bundle.extras, max_prompt_s=None))
    voice = bundle.extras.voices[0]
    long = np.tile(voice.latents.float().numpy(), (9, 1))
    with pytest.raises(ModelError, match="positions"):
        calibrate(bundle, recorded_of(bundle, long, text=voice.text * 9))


def test_a_network_that_says_nothing_tells_nothing() -> None:
    bundle = load_bundle(BUILT_IN)
    voice = bundle.extras.voices[0]
    with torch.no_grad():
        bundle.sled.eos_head.weight.mul_(0.0)
    silent = replace(bundle, extras=replace(bundle.extras, max_frames_per_token=0.03))
    with pytest.raises(ModelError, match="too few"):
        calibrate(silent, recorded_of(bundle, voice.latents.float().numpy()))
