"""Speech at one pitch is given another: where the pitch lies, what it does, and how it is put into the sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sled_tts.model.checkpoint import BUILT_IN, load_bundle
from sled_tts.model.errors import CheckpointError, ModelError
from sled_tts.model.melody.contour import ContourNet, ContourStream, ContourWeights
from sled_tts.model.melody.melody import Melody, load_contour, read_melody, write_melody
from sled_tts.model.melody.register import Register, corrected, measure, nearest_pitch, octaves
from sled_tts.model.melody.shifting import RATIOS, PitchShifter
from sled_tts.model.speaking import lines_in, speak_lines

RATE, HOP = 16_000, 320


def shifter(hz: float) -> PitchShifter:
    return PitchShifter(RATE / hz, HOP, RATE)


def pulses(hz: float, frames: int, harmonics: int = 25) -> np.ndarray:
    """A voice at a constant pitch, its pulses where a shifter expects them."""
    time = np.arange(frames * HOP) / RATE - 0.0015
    return 0.02 * np.sum([np.cos(2 * np.pi * hz * k * time) for k in range(1, harmonics)], axis=0).astype(np.float32)


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(frames * HOP)).astype(np.float32)


def peak_hz(wave: np.ndarray, near: float, within: float = 0.2) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 17))
    hz = np.fft.rfftfreq(1 << 17, 1 / RATE)
    chosen = np.abs(hz - near) < within * near
    return float(hz[chosen][np.argmax(spectrum[chosen])])


@pytest.mark.parametrize("hz", [100.0, 150.0])
def test_the_pitch_that_is_there_changes_nothing(hz: float) -> None:
    for wave in (pulses(hz, 30), noise(30), pulses(hz, 30) + noise(30)):
        np.testing.assert_allclose(shifter(hz).push(wave, [1.0] * 30, final=True), wave, atol=1e-6)


@pytest.mark.parametrize("hz", [100.0, 150.0])
@pytest.mark.parametrize("ratio", [0.7, 0.93, 1.21, 1.6])
def test_every_harmonic_goes_to_its_new_place_at_its_old_loudness(hz: float, ratio: float) -> None:
    wave = pulses(hz, 100)
    heard = shifter(hz).push(wave, [ratio] * 100, final=True)
    assert len(heard) == len(wave)
    middle = heard[4 * HOP : -4 * HOP]
    for harmonic in (1, 3, 8):
        wanted = hz * ratio * harmonic
        assert peak_hz(middle, wanted, 0.4 / harmonic) == pytest.approx(wanted, abs=1.5)
    assert np.sqrt(np.square(middle).mean()) == pytest.approx(np.sqrt(np.square(wave).mean()), rel=0.12)


def test_noise_stays_what_it_was() -> None:
    """Copies of it, a little apart, would be combed."""
    wave = noise(100)
    for ratio in (0.9, 1.03, 1.3):
        heard = shifter(150.0).push(wave, [ratio] * 100, final=True)
        assert np.corrcoef(heard, wave)[0, 1] > 0.97


def test_a_glide_is_followed_in_time() -> None:
    """Frame i has the pitch of ratio i in its middle."""
    ratios = np.linspace(0.8, 1.5, 150)
    heard = shifter(150.0).push(pulses(150.0, 150), list(ratios), final=True)
    for frame in (30, 75, 120):
        centre = int((frame + 0.5) * HOP)
        assert peak_hz(heard[centre - 640 : centre + 640], 150 * ratios[frame]) == pytest.approx(
            150 * ratios[frame], rel=0.01
        )


@settings(max_examples=40, deadline=None)
@given(
    hz=st.sampled_from([100.0, 150.0]),
    cuts=st.lists(st.integers(0, 7), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
)
def test_chunks_have_the_bits_of_the_whole(hz: float, cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = sum(cuts) + int(rng.integers(0, 3))
    wave = pulses(hz, frames) * rng.uniform(0.0, 1.0) + noise(frames, seed)
    ratios = rng.uniform(0.5, 2.0, frames).tolist()
    whole = shifter(hz).push(wave, ratios, final=True)
    live, parts, at = shifter(hz), [], 0
    for cut in cuts:
        parts.append(live.push(wave[at * HOP : (at + cut) * HOP], ratios[at : at + cut], final=False))
        at += cut
        assert sum(map(len, parts)) == max(0, at * HOP - live.delay)
    parts.append(live.push(wave[at * HOP :], ratios[at:], final=True))
    assert np.array_equal(np.concatenate(parts), whole)
    assert len(whole) == len(wave)


def test_a_shifter_says_how_far_it_is_behind_and_refuses_half_frames() -> None:
    assert (shifter(150.0).delay, shifter(100.0).delay) == (HOP, 2 * HOP)
    with pytest.raises(ValueError, match="100 samples are not 1 frames"):
        shifter(150.0).push(np.zeros(100, np.float32), [1.0], final=False)
    assert shifter(150.0).push(np.zeros(0, np.float32), [], final=True).size == 0


def test_ratios_are_bounded() -> None:
    wave = pulses(150.0, 60)
    for ratio, bound in ((9.0, RATIOS[1]), (0.01, RATIOS[0])):
        far, near = (shifter(150.0).push(wave, [r] * 60, final=True) for r in (ratio, bound))
        assert np.array_equal(far, near)


@torch.inference_mode()
def test_live_contours_are_the_trained_networks() -> None:
    torch.manual_seed(0)
    net = ContourNet(5, width=12, noise_channels=3).eval()
    net.mean.normal_()
    net.std.uniform_(0.5, 2.0)
    latents, drawn = 3 * torch.randn(40, 5), torch.randn(3)
    live = ContourStream(ContourWeights.of(net), drawn.numpy())
    want = net(latents[None], drawn[None])[0].numpy()
    np.testing.assert_allclose([live.step(frame) for frame in latents.numpy()], want, atol=1e-5)
    loud = ContourStream(ContourWeights.of(net), drawn.numpy())
    assert np.isfinite(loud.step(np.full(5, 1e6, np.float32)))


def small_melody(**changes: float) -> Melody:
    torch.manual_seed(1)
    return Melody(ContourWeights.of(ContourNet(4, width=8, noise_channels=2)), (100.0, 150.0), **changes)


def spoken(frames: int = 60) -> tuple[np.ndarray, np.ndarray]:
    return pulses(150.0, frames), np.random.default_rng(0).standard_normal((frames, 4)).astype(np.float32)


def test_an_utterance_has_the_melody_of_its_register_and_seed() -> None:
    wave, latents = spoken()
    say = lambda seed, register, **changes: (  # noqa: E731
        small_melody(**changes).begin(register, seed, rate=RATE, hop=HOP).push(wave, latents, final=True)
    )
    calm = Register(180.0, 0.0)
    assert peak_hz(say(0, calm)[3 * HOP : -3 * HOP], 180.0) == pytest.approx(180.0, abs=1.5)
    lively = Register(150.0, 0.3)
    assert np.array_equal(say(0, lively), say(0, lively))
    assert not np.array_equal(say(0, lively), say(1, lively))
    assert np.array_equal(say(0, lively, noise_scale=0.0), say(1, lively, noise_scale=0.0))
    np.testing.assert_allclose(say(0, lively, depth=0.0), wave, atol=1e-6)


def test_a_locked_pitch_counts_more_than_the_nearest() -> None:
    wave, latents = spoken()
    register = Register(115.0, 0.0, locked_hz=150.0)
    heard = small_melody().begin(register, 0, rate=RATE, hop=HOP).push(wave, latents, final=True)
    assert peak_hz(heard[3 * HOP : -3 * HOP], 115.0) == pytest.approx(115.0, abs=1.5)


def test_frames_that_nobody_hears_pass_at_once_and_as_they_are() -> None:
    wave, latents = spoken()
    want = small_melody().begin(Register(170.0, 0.2), 3, rate=RATE, hop=HOP)
    whole = want.push(wave[10 * HOP :], latents[10:], final=True)
    live = small_melody().begin(Register(170.0, 0.2), 3, rate=RATE, hop=HOP, skip=10)
    parts = [live.push(wave[: 4 * HOP], latents[:4], False), live.push(wave[4 * HOP : 30 * HOP], latents[4:30], False)]
    assert [len(part) // HOP for part in parts] == [4, 6 + 20 - 1]
    parts.append(live.push(wave[30 * HOP :], latents[30:], True))
    assert np.array_equal(np.concatenate(parts), np.concatenate([wave[: 10 * HOP], whole]))


@pytest.mark.parametrize(("said_hz", "hz"), [(163.0, 174.0 * 174 / 163), (174.0, 174.0), (90.0, 217.5), (300.0, 139.2)])
def test_a_register_is_corrected_by_what_is_heard_and_by_a_quarter_at_most(said_hz: float, hz: float) -> None:
    found = corrected(Register(174.0, 0.35, 150.0), Register(said_hz, 0.2))
    assert found.hz == pytest.approx(hz)
    assert (found.spread, found.locked_hz) == (0.35, 150.0)


def test_registers_are_measured_in_spite_of_octave_errors() -> None:
    rng = np.random.default_rng(0)
    track = 180.0 * 2.0 ** (0.2 * rng.standard_normal(2000))
    track[::10] = 0.0
    track[5::40] *= 2.0
    found = measure(track)
    assert found.hz == pytest.approx(180.0, rel=0.03)
    assert found.spread == pytest.approx(0.2, rel=0.15)
    above, sure = octaves(track, found.hz)
    assert not sure[::10].any()
    assert np.abs(above[sure]).max() < 0.8
    with pytest.raises(ModelError, match="voiced"):
        measure(np.zeros(400))
    assert [nearest_pitch(hz, (100.0, 150.0)) for hz in (90, 121, 124, 300)] == [100.0, 100.0, 150.0, 150.0]


@pytest.mark.parametrize(
    "wrong",
    [{"hz": 5.0, "spread": 0.2}, {"hz": 150.0, "spread": 2.0}, {"hz": 150.0}, {"hz": 150.0, "spread": 0.2, "x": 1},
     {"hz": 150.0, "spread": 0.2, "locked_hz": 1.0}, {"hz": None, "spread": 0.1}],
)  # fmt: skip
def test_wrong_registers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Register.from_dict(wrong)


def test_a_melody_is_written_and_read(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = ContourNet(4, width=8, noise_channels=2)
    net.mean.normal_()
    write_melody(net, tmp_path)
    found = read_melody({"depth": 1.2, "noise_scale": 0.5}, tmp_path, 4, (150.0,))
    assert found is not None
    assert (found.depth, found.noise_scale, found.pitches_hz) == (1.2, 0.5, (150.0,))
    np.testing.assert_array_equal(found.weights.mean, net.mean.numpy())
    np.testing.assert_allclose(found.weights.enter[0], net.enter.weight.detach().numpy(), atol=1e-3)
    assert read_melody(None, tmp_path, 4, ()) is None
    for entry, folder, width, pitches, why in (
        ({"deep": 1.0}, tmp_path, 4, (150.0,), "unknown key deep"),
        ({"depth": 9.0}, tmp_path, 4, (150.0,), r"in \[0, 4\]"),
        ({"depth": "much"}, tmp_path, 4, (150.0,), "melody: could not"),
        ("melody.safetensors", tmp_path, 4, (150.0,), "must be a table"),
        ({}, tmp_path, 4, (), "pitches_hz"),
        ({}, tmp_path, 5, (150.0,), "4 dimensions, not 5"),
        ({}, tmp_path / "none", 4, (150.0,), "melody.safetensors"),
        ({}, None, 4, (150.0,), "no file"),
    ):
        with pytest.raises(CheckpointError, match=why):
            read_melody(entry, folder, width, pitches)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        load_contour({})


def test_the_built_in_voices_have_a_melody_that_moves() -> None:
    bundle = load_bundle(BUILT_IN)
    assert bundle.extras.melody is not None
    assert all(voice.register is not None for voice in bundle.extras.voices)
    bundle.sled.prepare_for_inference()
    (line,) = lines_in(bundle, bundle.voice(), ["The birch canoe slid on the smooth planks."])
    (lively,) = speak_lines(bundle, [line], cfg_scale=2.0, seed=0)
    (flat,) = speak_lines(bundle, [replace(line, register=None)], cfg_scale=2.0, seed=0)
    assert len(lively.wave) == len(flat.wave)
    assert np.array_equal(lively.whole[: -len(lively.wave)], flat.whole[: -len(flat.wave)])
    tracks = pytest.importorskip("sled_tts.model.pitch")
    moves = [measure(tracks.pitch_track(one.wave.astype(np.float64), RATE)[0]) for one in (lively, flat)]
    assert moves[0].spread > 2 * moves[1].spread
