"""What brings a cloned voice nearer to its recording."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sled_tts.model.calibration import Calibration, Opening
from sled_tts.model.checkpoint import BUILT_IN, ModelBundle, load_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.imitating import Recorded, calibrate
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.envelope import Envelope, into_cepstrum
from sled_tts.model.melody.likening import sound_levels
from sled_tts.model.quantization import Precision
from sled_tts.model.speaking import sound_of


def curves(step: float = -2.0) -> Dynamics:
    loud = np.repeat(np.array([[-60.0], [-20.0], [0.0]], np.float32), 17, axis=1)
    return Dynamics(loud, np.full_like(loud, step))


def reshaping() -> Dynamics:
    return replace(curves(), envelope=Envelope(np.arange(68, dtype=np.float32).reshape(4, 17)))


@pytest.mark.parametrize("opening", [None, Opening(140, 23)])
@pytest.mark.parametrize(("dynamics", "hz"), [(None, None), (curves(), 200.0), (reshaping(), 101.5)])
def test_a_calibration_travels_as_arrays_and_is_checked(
    dynamics: Dynamics | None, hz: float | None, opening: Opening | None
) -> None:
    found = Calibration(opening, hz, dynamics)
    kept = found.arrays()
    assert all(value.ndim == 2 and value.dtype == np.float32 for value in kept.values())
    again = Calibration.of(kept)
    assert (again.dynamics is None) == (dynamics is None)
    assert (again.opening, again.hz) == (opening, hz)
    assert kept.keys() == again.arrays().keys()
    assert all(np.array_equal(value, kept[name]) for name, value in again.arrays().items())
    for part in ("levels_db", "gains_db", "envelope_db"):
        lone = {name: value for name, value in kept.items() if name not in ("levels_db", "gains_db", "envelope_db")}
        with pytest.raises(ValueError, match="both"):
            Calibration.of(lone | {part: np.ones((2, 17), "f4")})
    for odd in ([[1.5, 2.0]], [[1.0]], [[0.0, 4.0]], [[np.nan, 4.0]]):
        with pytest.raises(ValueError, match="opening"):
            Calibration.of(kept | {"opening": np.array(odd, np.float32)})
    for odd in ([[150.0, 2.0]], [[5.0]], [[np.nan]]):
        with pytest.raises(ValueError, match="hz of a calibration"):
            Calibration.of(kept | {"hz": np.array(odd, np.float32)})


def recorded_of(bundle: ModelBundle, latents: np.ndarray, **changes: Any) -> Recorded:
    """As if the built-in voice had been recorded with these latents."""
    voice = bundle.extras.voices[0]
    wave = sound_of(bundle, torch.from_numpy(latents), voice.register)
    return replace(Recorded(latents, voice.text, wave, voice.register), **changes)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return load_bundle(BUILT_IN)


@pytest.fixture(scope="module")
def given(bundle: ModelBundle) -> Recorded:
    """As if the built-in voice had been recorded with the latents that its prompt has."""
    return recorded_of(bundle, bundle.extras.voices[0].latents.float().numpy())


@pytest.fixture(scope="module")
def found(bundle: ModelBundle, given: Recorded) -> Calibration:
    return calibrate(bundle, given)


def gains(found: Calibration, wave: np.ndarray) -> np.ndarray:
    """Median by band."""
    assert found.dynamics is not None
    return np.asarray(np.median(found.dynamics.gains(sound_levels([wave])), axis=0))


def test_the_same_voice_is_heard_the_same(bundle: ModelBundle, given: Recorded, found: Calibration) -> None:
    again = calibrate(bundle, given)
    assert again.arrays().keys() == found.arrays().keys()
    assert all(np.array_equal(value, again.arrays()[name]) for name, value in found.arrays().items())


def test_the_loudness_of_a_recording_is_imitated_where_there_is_a_melody(
    bundle: ModelBundle, given: Recorded, found: Calibration
) -> None:
    """The same recording with less treble, then without a pitch, then for a checkpoint without a melody."""
    spectrum = np.fft.rfft(given.wave)
    spectrum[len(spectrum) // 2 :] *= 0.25
    dull = replace(given, wave=np.fft.irfft(spectrum, len(given.wave)).astype(np.float32))
    as_it_is, duller = found.dynamics, calibrate(bundle, dull).dynamics
    assert as_it_is is not None
    assert duller is not None
    loud = sound_levels([given.wave])
    change = np.median(duller.gains(loud) - as_it_is.gains(loud), axis=0)
    # The whole becomes a little louder, since a recording is brought to one level.
    np.testing.assert_allclose(change[70:120], -12.0, atol=1.5)
    np.testing.assert_allclose(change[2:58], 0.0, atol=1.5)
    for plain in (calibrate(bundle, replace(given, register=None)), calibrate(bundle.without_melody(), given)):
        assert (plain.dynamics, plain.hz) == (None, None)


def test_pitch_and_resonances_of_a_recording_are_imitated_where_there_is_a_melody(
    bundle: ModelBundle, given: Recorded, found: Calibration
) -> None:
    """The same recording, and it played a tenth faster, which moves both up; but the network is told of neither."""
    places = np.arange(0, len(given.wave) - 1, 1.1)
    fast = np.interp(places, np.arange(len(given.wave)), given.wave).astype(np.float32)
    assert given.register is not None
    higher = calibrate(bundle, replace(given, wave=fast, register=replace(given.register, hz=1.1 * given.register.hz)))
    assert found.hz is not None
    assert higher.hz == pytest.approx(1.1 * found.hz, rel=0.03)
    peak = np.zeros(129)
    peak[28:33] = 20.0
    moved = []
    for one in (higher, found):
        assert one.dynamics is not None
        assert one.dynamics.envelope is not None
        rows = one.dynamics.envelope.gains_db[:-1]
        moved.append(into_cepstrum(129, len(rows)) @ peak @ rows)
    up = moved[0] - moved[1]
    assert up[33:37].mean() > up[24:28].mean() + 2, "a resonance at 1.9 kHz goes up"


def test_a_transcript_that_cannot_be_recited_costs_the_resonances_alone(bundle: ModelBundle, given: Recorded) -> None:
    """A word for which there is room once, before what is said, but not twice."""
    endless = calibrate(bundle, replace(given, text="a" * 450))
    assert endless.dynamics is not None
    assert endless.dynamics.envelope is None
    assert endless.hz is not None


def test_a_network_in_half_precision_is_listened_to_as_well(given: Recorded, found: Calibration) -> None:
    """As on a GPU, where a prompt comes in another precision and from another device."""
    half = calibrate(load_bundle(BUILT_IN, dtype=torch.bfloat16), given)
    np.testing.assert_allclose(gains(half, given.wave), gains(found, given.wave), atol=3.0)


def test_a_packed_network_without_its_first_weights_is_listened_to_as_well(given: Recorded, found: Calibration) -> None:
    """As the server holds it."""
    bundle = load_bundle(BUILT_IN)
    bundle.sled.prepare_for_inference(Precision.FP32)
    bundle.sled.release_weights()
    np.testing.assert_allclose(gains(calibrate(bundle, given), given.wave), gains(found, given.wave), atol=0.1)


def test_a_recording_that_fills_all_positions_leaves_no_room_to_listen(bundle: ModelBundle) -> None:
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
