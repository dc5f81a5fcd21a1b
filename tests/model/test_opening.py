"""Where a recording can be cut so that what is left says a known part of its transcript."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sled_tts.model.calibration import Calibration, Opening
from sled_tts.model.checkpoint import BUILT_IN, ModelBundle, load_bundle
from sled_tts.model.imitating import Recorded, calibrate
from sled_tts.model.opening import find_opening
from sled_tts.model.references import as_known, encode_recording, register_of
from sled_tts.model.speaking import lines_in, speak_lines
from sled_tts.model.time_warping import Float32

FIRST, SECOND = "Bright yellow leaves were falling on the path.", "He found both of these coins under the floor."


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return load_bundle(BUILT_IN)


def read(bundle: ModelBundle, *parts: str | float) -> tuple[Float32, list[float]]:
    """A reading in another voice than the one that recites, with pauses in seconds between its parts; and when each
    part ends."""
    rate, hop = bundle.codec.config.sampling_rate, bundle.codec.config.hop_length
    texts = [part for part in parts if isinstance(part, str)]
    said = iter(speak_lines(bundle, lines_in(bundle, bundle.voice("slt"), texts), cfg_scale=2.0, seed=40))
    waves: list[Float32] = []
    ends: list[float] = []
    for part in parts:
        wave = np.zeros(round(part * rate), np.float32) if isinstance(part, float) else next(said).wave
        waves.append(wave)
        ends.append(sum(map(len, waves)) / rate)
    whole = np.concatenate(waves)
    return whole[: len(whole) // hop * hop], ends


def opening(bundle: ModelBundle, wave: Float32, text: str) -> Opening | None:
    return find_opening(bundle, wave, np.zeros((len(wave), 1), np.float32), text)


def test_a_reading_is_cut_in_the_pause_between_two_sentences(bundle: ModelBundle) -> None:
    wave, ends = read(bundle, FIRST, 0.5, SECOND)
    found = opening(bundle, wave, f"{FIRST} {SECOND}")
    assert found is not None
    assert found.letters == len(FIRST)
    assert ends[0] - 0.4 <= found.frames / bundle.codec.config.frame_rate <= ends[1]


@pytest.mark.parametrize("before", [5, 8])
def test_the_words_before_a_pause_are_counted_by_listening(bundle: ModelBundle, before: int) -> None:
    """One transcript, read with its longest pause after another word each time."""
    text = "Keep the old brown shoes beside the kitchen door and please pass the fresh white cheese"
    words = text.split()
    wave, ends = read(bundle, " ".join(words[:before]), 0.7, " ".join(words[before:]))
    shorter = replace(bundle, extras=replace(bundle.extras, max_prompt_s=ends[1] - 0.2))
    found = opening(shorter, wave, text)
    assert found is not None
    assert found.letters == len(" ".join(words[:before]))


def test_what_is_short_enough_is_a_prompt_as_it_is(bundle: ModelBundle) -> None:
    wave, _ = read(bundle, FIRST)
    assert len(wave) < 4.2 * bundle.codec.config.sampling_rate, "the built-in checkpoint's"
    assert opening(bundle, wave, FIRST) is None
    unbounded = replace(bundle, extras=replace(bundle.extras, max_prompt_s=None))
    assert opening(unbounded, np.tile(wave, 4), " ".join([FIRST] * 4)) is None


def test_without_a_pause_nothing_is_cut(bundle: ModelBundle) -> None:
    rate = bundle.codec.config.sampling_rate
    hum = np.sin(2 * np.pi * 150 * np.arange(6 * rate) / rate).astype(np.float32) * np.float32(0.1)
    for wave in (hum, np.zeros_like(hum)):
        assert opening(bundle, wave, f"{FIRST} {SECOND}") is None
    wave, _ = read(bundle, FIRST, 0.5, SECOND)
    for odd in ("Bright", "", "a" * 5000 + " b c d"):
        assert opening(bundle, wave, odd) is None


def test_a_voice_is_calibrated_by_all_of_a_recording_and_goes_on_from_its_opening(bundle: ModelBundle) -> None:
    wave, _ = read(bundle, FIRST, 0.5, SECOND)
    text = f"{FIRST} {SECOND}"
    latents = encode_recording(bundle, as_known(bundle, wave)).float().numpy()
    register = register_of(bundle, wave)
    found = calibrate(bundle, Recorded(latents, text, wave, register))
    assert found.opening == opening(bundle, wave, text), "the same for the same recording"
    assert found.opening is not None
    part = slice(0, found.opening.frames)
    hop = bundle.codec.config.hop_length
    alone = calibrate(bundle, Recorded(latents[part], FIRST, wave[: found.opening.frames * hop], register))
    assert alone.opening is None
    assert found.dynamics is not None
    assert alone.dynamics is not None
    assert not np.array_equal(alone.dynamics.gains_db, found.dynamics.gains_db), "of the rest as well"
    assert calibrate(bundle, Recorded(latents, text, wave)) == Calibration(found.opening), "without a pitch"
