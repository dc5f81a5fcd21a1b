"""Recordings as a checkpoint knows speech."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sled_tts.model.checkpoint import BUILT_IN, ModelBundle, load_bundle
from sled_tts.model.references import as_known, encode_recording, register_of


def at_100(bundle: ModelBundle) -> ModelBundle:
    return replace(bundle, extras=replace(bundle.extras, reference_pitch_hz=100.0))


def tone(seconds: float = 1.0, rate: int = 16_000, hz: float = 180.0) -> np.ndarray:
    """A buzz whose pitch wanders around `hz`."""
    phase = np.cumsum(hz + 20 * np.sin(np.arange(int(seconds * rate)) / rate * 9)) / rate
    return (0.4 * (phase % 1.0) - 0.2).astype(np.float32)


def test_a_checkpoint_that_takes_any_speech_gets_it_as_it_is() -> None:
    bundle = load_bundle(BUILT_IN)
    plain = replace(bundle, extras=replace(bundle.extras, pitches_hz=(), speech_level=0.0))
    assert np.array_equal(as_known(plain, tone()), tone())


@pytest.mark.parametrize(
    ("gain", "reference_hz", "heard_hz"), [(0.02, None, 150.0), (1.0, 150.0, 150.0), (1.0, 100.0, 100.0)]
)
def test_level_and_pitch_are_those_of_the_training(gain: float, reference_hz: float | None, heard_hz: float) -> None:
    pytest.importorskip("pyworld")
    bundle = load_bundle(BUILT_IN)
    bundle = replace(bundle, extras=replace(bundle.extras, reference_pitch_hz=reference_hz))
    known = as_known(bundle, tone() * np.float32(gain))
    assert np.sqrt(np.square(known).mean()) == pytest.approx(bundle.extras.speech_level, rel=0.01)
    lag = np.arange(90, 180)
    middle = known[4000:12000]
    found = lag[np.argmax([middle[:-k] @ middle[k:] for k in lag])]
    assert abs(found - 16_000 / heard_hz) < 1.5
    register = register_of(bundle, tone())
    assert register is not None
    assert register.locked_hz == heard_hz
    assert np.array_equal(as_known(bundle.without_melody(), low := tone(hz=110)), as_known(at_100(bundle), low))
    assert register.hz == pytest.approx(180, rel=0.05)


def test_a_loud_peak_is_kept_below_clipping() -> None:
    bundle = load_bundle(BUILT_IN)
    plain = replace(bundle, extras=replace(bundle.extras, pitches_hz=(), speech_level=0.5))
    spiky = np.zeros(16_000, dtype=np.float32)
    spiky[::800] = 0.1
    assert np.abs(as_known(plain, spiky)).max() <= 0.951


def test_latents_are_those_the_network_was_trained_on() -> None:
    """The built-in network knows what the encoder gives; its own voice was kept as such latents."""
    bundle = load_bundle(BUILT_IN)
    assert not bundle.extras.quantised
    latents = encode_recording(bundle, tone())
    with torch.inference_mode():
        direct = bundle.codec.encoder(torch.from_numpy(tone())[None, None])[0].T
    assert latents.shape == (50, bundle.codec.config.dimension)
    torch.testing.assert_close(latents, direct, atol=1e-4, rtol=1e-4)
    codes = replace(bundle, extras=replace(bundle.extras, quantised=True))
    again = encode_recording(codes, tone())
    torch.testing.assert_close(again, bundle.codec.encode(torch.from_numpy(tone())[None, None])[0])
    assert not torch.allclose(again, direct, atol=1e-2)
