"""Manifests, their faults, and recordings turned into a corpus."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sled_tts.model.checkpoint import load_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.speaking import lines_in, speak_lines

pytest.importorskip("lhotse", reason="the train extra is not installed")

from sled_tts.model.melody.register import nearest_pitch
from sled_tts.model.pitch import PITCHES_HZ, lock_pitch, median_pitch, pitch_track
from sled_tts.model.training.alignment import Aligned, Aligner
from sled_tts.model.training.manifests import Limits, read_manifest
from sled_tts.model.training.recordings import Preparation, prepare_recordings, trim_silence
from sled_tts.model.training.synthetic import read_audio, read_items

RATE = 16_000


def voice(seconds: float, hz: float, rate: int = RATE, glide: float = 0.0) -> np.ndarray:
    """A buzz through two formants: enough of a voice for a pitch tracker."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(hz * (1 + glide * time)) / rate
    wave = sum(np.cos(k * phase) / k * np.exp(-(((k * hz - 600) / 500) ** 2)) for k in range(1, int(4000 / hz)))
    return 0.2 * wave / np.abs(wave).max()


def cut(name: str, source: Path | str, duration: float, **changes: Any) -> dict[str, Any]:
    supervision = {
        "id": name, "recording_id": name, "start": 0.0, "duration": duration, "channel": 0,
        "text": changes.pop("text", "some words"), "language": "en", "speaker": changes.pop("speaker", "kim"),
    }  # fmt: skip
    recorded = changes.pop("recorded", duration)
    recording = {
        "id": name, "sampling_rate": RATE, "num_samples": int(recorded * RATE), "duration": recorded,
        "sources": [{"type": "file", "channels": [0], "source": str(source)}],
    }  # fmt: skip
    return {
        "id": name, "start": 0.0, "duration": duration, "channel": 0, "type": "MonoCut",
        "supervisions": [supervision], "recording": recording, **changes,
    }  # fmt: skip


def write(folder: Path, cuts: list[dict[str, Any]]) -> Path:
    path = folder / "cuts.jsonl"
    path.write_text("".join(json.dumps(c) + "\n" for c in cuts), encoding="utf-8")
    return path


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", voice(2.0, 210), RATE)
    return Path("a.wav")


def test_every_fault_is_counted_by_kind_with_examples(tmp_path: Path, wav: Path) -> None:
    path = write(
        tmp_path,
        [
            cut("good", wav, 2.0),
            cut("gone", "missing.wav", 2.0),
            cut("lost", "missing.wav", 2.0),
            cut("mute", wav, 2.0, text="  "),
            cut("long", wav, 50.0),
            cut("beyond", wav, 3.0, recorded=2.0),
            cut("blink", wav, 0.1),
            cut("good", wav, 2.0),
        ],
    )
    cuts, report = read_manifest(path, Limits())
    assert [c.id for c in cuts] == ["good"]
    assert cuts[0].recording.sources[0].source == str(tmp_path / "a.wav")
    assert report.problems == {
        "a missing audio file": (2, ["gone", "lost"]),
        "no text": (1, ["mute"]),
        "more than 35 s": (1, ["long"]),
        "a start or duration outside its recording": (1, ["beyond"]),
        "less than 0.3 s": (1, ["blink"]),
        "an id that was there before": (1, ["good"]),
    }
    assert "2 with a missing audio file: gone, lost" in str(report)


def test_a_manifest_without_a_usable_cut_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="1 with a missing audio file: gone"):
        read_manifest(write(tmp_path, [cut("gone", "missing.wav", 2.0)]), Limits())


@pytest.mark.parametrize("text", ['{"id": "cut off', "not json at all\n", '["a list"]\n'])
def test_what_is_no_manifest_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cuts.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"cuts\.jsonl"):
        read_manifest(path, Limits())
    with pytest.raises(ModelError, match="no manifest at"):
        read_manifest(tmp_path / "none.jsonl", Limits())


def test_locked_pitch_is_constant_and_in_phase_with_the_frames() -> None:
    wave = voice(1.5, 190, glide=0.15)
    locked = lock_pitch(wave, RATE, 150.0)
    assert len(locked) == len(wave)
    track = pitch_track(locked, RATE)[0]
    middle = track[40:-40]
    assert np.abs(middle[middle > 0] - 150).max() < 1.5
    frames = locked[3200 : 3200 + 320 * 50].reshape(50, 320)
    alike = [np.corrcoef(a, b)[0, 1] for a, b in itertools.pairwise(frames)]
    assert min(alike) > 0.95, "each frame starts at the same place of a period"
    drifting = voice(1.5, 157.3)[3200 : 3200 + 320 * 50].reshape(50, 320)
    assert min(np.corrcoef(a, b)[0, 1] for a, b in itertools.pairwise(drifting)) < 0.9


def test_pitch_of_a_speaker_and_its_grid() -> None:
    assert median_pitch([voice(1.0, 210)], RATE) == pytest.approx(210, rel=0.02)
    assert [nearest_pitch(hz, PITCHES_HZ) for hz in (90, 118, 130, 220)] == [100.0, 100.0, 150.0, 150.0]
    with pytest.raises(ModelError, match="voiced"):
        median_pitch([np.zeros(RATE)], RATE)


def test_recordings_become_whole_frames_at_one_level(tmp_path: Path) -> None:
    quiet = np.concatenate([np.zeros(RATE), 0.05 * voice(1.0, 120), np.zeros(RATE)])
    soundfile.write(tmp_path / "a.wav", quiet, RATE)
    soundfile.write(tmp_path / "b.wav", voice(1.0, 230, 24_000), 24_000)
    second = cut("b", "b.wav", 1.0, speaker=None)
    second["recording"] |= {"sampling_rate": 24_000, "num_samples": 24_000}
    cuts, _ = read_manifest(write(tmp_path, [cut("a", "a.wav", 3.0), second]), Limits())
    heard: list[int] = []
    count, hours = prepare_recordings(cuts, tmp_path / "corpus", Preparation(align=False), heard.append)
    items, audio = list(read_items(tmp_path / "corpus")), read_audio(tmp_path / "corpus")
    assert (count, heard) == (2, [1, 2])
    assert [item.speaker for item in items] == ["kim", tmp_path.name]
    assert sum(item.frames for item in items) * 320 == len(audio) == round(hours * 3600 * RATE)
    assert 1.0 <= items[0].frames * 0.02 <= 1.25, "silence is trimmed"
    for item, hz in zip(items, (100.0, 150.0), strict=True):
        wave = audio[item.offset * 320 : (item.offset + item.frames) * 320].astype(np.float64) / 32768
        assert np.sqrt(np.square(wave).mean()) == pytest.approx(0.07, rel=0.02)
        assert median_pitch([wave], RATE) == pytest.approx(hz, rel=0.02)


def test_several_processes_make_the_corpus_of_one(tmp_path: Path) -> None:
    """More cuts than one process is given at once."""
    lines = []
    for number in range(20):
        soundfile.write(tmp_path / f"{number}.wav", voice(0.6 + 0.02 * number, 120 + number), RATE)
        lines.append(cut(str(number), f"{number}.wav", 0.6 + 0.02 * number))
    cuts, _ = read_manifest(write(tmp_path, lines), Limits())
    heard: list[int] = []
    alone = prepare_recordings(cuts, tmp_path / "alone", Preparation())
    together = prepare_recordings(cuts, tmp_path / "together", Preparation(), heard.append, jobs=2)
    assert together == alone
    assert heard == list(range(1, 21))
    for name in ("audio.i16", "items.jsonl", "pitch.f32", "locked.json"):
        assert (tmp_path / "together" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_cut_that_cannot_be_read_ends_all_processes_and_is_named(tmp_path: Path) -> None:
    lines = []
    for number in range(40):
        soundfile.write(tmp_path / f"{number}.wav", voice(0.6, 120), RATE)
        lines.append(cut(f"cut-{number}", f"{number}.wav", 0.6))
    cuts, _ = read_manifest(write(tmp_path, lines), Limits())
    (tmp_path / "19.wav").write_bytes(b"no sound")
    with pytest.raises(ModelError, match="cut-19"):
        prepare_recordings(cuts, tmp_path / "corpus", Preparation(align=False), jobs=2)
    assert not (tmp_path / "corpus" / "items.jsonl").exists()


def test_an_alignment_does_not_depend_on_what_was_aligned_before() -> None:
    bundle, text = load_bundle("built-in"), "It was a bright cold day in April."
    wave = speak_lines(bundle, lines_in(bundle, bundle.voice(None), [text]), cfg_scale=2.0, seed=0)[0].wave
    noisy = wave + 0.05 * np.random.default_rng(0).standard_normal(len(wave))
    speech, other = ((np.clip(heard, -1, 1) * 32767).astype(np.int16) for heard in (wave, noisy))
    first, after = Aligner.create().align(speech, text), Aligner.create()
    assert first is not None
    after.align(other, text)
    assert after.align(speech, text) == first


def test_silence_alone_is_left_as_it_is() -> None:
    assert len(trim_silence(np.zeros(5000), RATE)) == 5000


def test_phrases_end_at_pauses_and_labels_follow_the_frames() -> None:
    words = [("a", 0.1, 0.5), ("b", 0.5, 1.0), ("c", 1.4, 2.0), ("d", 2.3, 2.6)]
    phones = [("pau", 0.0, 0.1), ("x", 0.1, 1.0), ("pau", 1.0, 1.4), ("y", 1.4, 3.0)]
    aligned = Aligned(words, phones)
    assert aligned.phrases(0.25, 0.5) == [(0, 2), (2, 3), (3, 4)]
    assert aligned.phrases(0.25, 1.5) == [(0, 3), (3, 4)]
    assert aligned.phone_labels(4, 0.4) == ["x", "x", "pau", "y"]
