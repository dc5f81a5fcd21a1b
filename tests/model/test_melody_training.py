"""The pitch that recordings had: kept while they are prepared, learnt from latents, and part of a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from sled_tts.model.checkpoint import load_bundle
from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ConfigError, ModelError
from sled_tts.model.melody.melody import FILE, load_contour
from sled_tts.model.tokenizer import train_tokenizer
from sled_tts.model.training.cli import app, small_codec_config
from sled_tts.model.training.intonation import Intonation, speaker_registers
from sled_tts.model.training.melody import (
    MelodyReport,
    MelodyTraining,
    contour_distance,
    explained_variance,
    train_contour,
)
from sled_tts.model.training.recipe import check_recipe, with_data
from sled_tts.model.training.synthetic import CorpusItem, read_items, read_pitches
from tests.model.disks import full_disk

pytest.importorskip("lhotse", reason="the train extra is not installed")

from safetensors.torch import load_file

from sled_tts.model.pitch import frame_pitches
from sled_tts.model.training.alignment import Aligned
from sled_tts.model.training.manifests import Limits, read_manifest
from sled_tts.model.training.recordings import Preparation, Preparer, prepare_recordings
from tests.model.test_training_data import RATE, cut, voice, write
from tests.model.test_training_pipeline import make_recipe

HOP = 320
SHORT = MelodyTraining(steps=12, batch=3, width=8, noise_channels=2, save_every=4, report_every=1)


@dataclass(frozen=True)
class Glide:
    """A voice whose pitch rises from `hz`, by a share `rise` of it a second, from `start` for `seconds`."""

    hz: float
    rise: float
    start: float
    seconds: float = 1.2

    def at(self, time: np.ndarray) -> np.ndarray:
        return np.asarray(self.hz * (1 + self.rise * (time - self.start)))

    def inside(self, time: np.ndarray) -> np.ndarray:
        return (time > self.start + 0.06) & (time < self.start + self.seconds - 0.06)

    def outside(self, time: np.ndarray) -> np.ndarray:
        return (time < self.start - 0.06) | (time > self.start + self.seconds + 0.06)


def glides(seconds: float, *parts: Glide) -> np.ndarray:
    wave = np.zeros(int(seconds * RATE))
    for part in parts:
        spoken = voice(part.seconds, part.hz, glide=part.rise)
        wave[int(part.start * RATE) :][: len(spoken)] = spoken
    return wave


def assert_follows(pitches: np.ndarray, begins: float, *parts: Glide) -> None:
    """Frame by frame, of frames of 20 ms from `begins` on in the recording."""
    centres = begins + (np.arange(len(pitches)) + 0.5) * HOP / RATE
    for part in parts:
        heard = pitches[part.inside(centres)]
        assert len(heard) > 40
        assert (heard > 0).mean() > 0.95
        off = heard / part.at(centres[part.inside(centres)]) - 1
        assert np.abs(off[heard > 0]).max() < 0.02
    assert not pitches[np.all([part.outside(centres) for part in parts], axis=0)].any(), "silence has no pitch"


def test_every_frame_keeps_the_pitch_it_had(tmp_path: Path) -> None:
    first, second = Glide(120, 0.5, start=1.0), Glide(260, -0.3, start=0.7)
    for name, part in (("a", first), ("b", second)):
        soundfile.write(tmp_path / f"{name}.wav", glides(3.0, part), RATE)
    path = write(tmp_path, [cut("a", "a.wav", 3.0), cut("b", "b.wav", 3.0, speaker="tom")])
    cuts, _ = read_manifest(path, Limits())
    prepare_recordings(cuts, tmp_path / "corpus", Preparation(align=False))
    pitches, items = read_pitches(tmp_path / "corpus"), list(read_items(tmp_path / "corpus"))
    assert pitches is not None
    assert len(pitches) == sum(item.frames for item in items)
    for item, part in zip(items, (first, second), strict=True):
        # What is trimmed goes up to 60 ms before the first sound.
        assert_follows(pitches[item.offset : item.offset + item.frames], part.start - 0.06, part)
    prepare_recordings(cuts, tmp_path / "corpus", Preparation(align=False, lock_pitch=False))
    assert read_pitches(tmp_path / "corpus") is None, "of recordings that were here before"


def test_phrases_keep_the_pitch_of_their_frames(tmp_path: Path) -> None:
    parts = Glide(110, 0.4, start=0.5), Glide(190, -0.3, start=2.3)
    soundfile.write(tmp_path / "a.wav", glides(4.0, *parts), RATE)
    cuts, _ = read_manifest(write(tmp_path, [cut("a", "a.wav", 4.0, text="up down")]), Limits())
    how = Preparation(phrase_s=2.0, shortest_phrase_s=0.5, trim=False)

    class Known:
        """No speech is in the recording, so where its words are is said here."""

        def align(self, samples: np.ndarray, text: str) -> Aligned:
            spans = [
                (word, part.start, part.start + part.seconds) for word, part in zip(text.split(), parts, strict=True)
            ]
            return Aligned(spans, [("pau", 0.0, 4.0)])

    pieces = Preparer(how, {"kim": 150.0}, Known()).pieces(cuts[0])  # type: ignore[arg-type]
    assert [piece.text for piece in pieces] == ["up", "down"]
    for piece, part in zip(pieces, parts, strict=True):
        assert piece.pitches is not None
        assert len(piece.pitches) == len(piece.samples) // HOP == len(piece.labels)
        assert_follows(piece.pitches, part.start - 0.06, part)


def test_a_frame_is_voiced_when_half_of_it_is() -> None:
    track = np.array([0, 100, 0, 0, 0, 100, 120, 0, 100, 100, 100, 140, 200, 200], dtype=np.float64)
    assert frame_pitches(track, 16_000, 320, 5).tolist() == [0, 110, 110, 200, 0]
    # 75 frames a second have 8 values in every 3.
    assert frame_pitches(np.full(8, 90.0), 24_000, 320, 3).tolist() == [90, 90, 90]


def toy(folder: Path, *, dims: int = 6, told: bool = True, speakers: tuple[str, ...] = ("kim", "tom")) -> Path:
    """A corpus of 20 utterances for each speaker whose pitch the latents tell (`told`), or which is high or low for a
    whole utterance and in no way foretold. Returns the working folder."""
    rng = np.random.default_rng(3)
    offset, lines, pitches, latents = 0, list[str](), list[np.ndarray](), list[np.ndarray]()
    for index in range(20 * len(speakers)):
        speaker, frames = speakers[index % len(speakers)], int(rng.integers(60, 100))
        contour = np.cumsum(rng.normal(size=frames)) / 3
        contour = contour - contour.mean() if told else np.full(frames, rng.choice([-1.0, 1.0]))
        hz = 110.0 * 2 ** (speakers.index(speaker) + 0.2 * contour)
        hz[(np.arange(frames) // 10) % 4 == 3] = 0.0
        frame = rng.normal(size=(frames, dims))
        if told:
            frame[:, :2] = np.stack([2 + contour, -contour], axis=1) + 0.3 * frame[:, :2]
        lines.append(json.dumps(asdict(CorpusItem(index, "a b", offset, frames, [], speaker))) + "\n")
        pitches.append(hz)
        latents.append(3.0 * frame)
        offset += frames
    (folder / "corpus").mkdir(parents=True)
    (folder / "corpus" / "items.jsonl").write_text("".join(lines), encoding="utf-8")
    np.concatenate(pitches).astype("<f4").tofile(folder / "corpus" / "pitch.f32")
    np.save(folder / "latents.npy", np.concatenate(latents).astype(np.float16))
    return folder


def train(work: Path, training: MelodyTraining = SHORT, out: str = FILE, **how: object) -> list[MelodyReport]:
    reports: list[MelodyReport] = []
    told = {"frame_rate": 50.0, "report": reports.append, **how}
    train_contour(work / "corpus", work / "latents.npy", training, work / out, **told)  # type: ignore[arg-type]
    return reports


def test_the_network_learns_what_latents_tell(tmp_path: Path) -> None:
    work = toy(tmp_path)
    training = MelodyTraining(steps=80, batch=6, width=16, report_every=20)
    reports = train(work, training)
    assert [report.step for report in reports] == [20, 40, 60, 80]
    assert [report.explained is None for report in reports] == [True, True, True, False]
    assert reports[-1].explained is not None
    assert reports[-1].explained > 0.8
    assert reports[-1].energy < 0.6 * reports[0].energy
    # What was written is what was learnt.
    net = load_contour(load_file(work / FILE))
    data = Intonation.open(work / "corpus", work / "latents.npy", 500)
    assert len(data.held_out) == 2, "the twelfth utterance of each speaker"
    assert {item.index for item in data.held_out}.isdisjoint(item.index for item in data.train)
    assert explained_variance(net, data, data.held_out) == pytest.approx(reports[-1].explained, abs=0.01)


def test_what_latents_leave_open_differs_from_take_to_take(tmp_path: Path) -> None:
    work = toy(tmp_path, told=False)
    train(work, MelodyTraining(steps=120, batch=6, width=16, noise_channels=2, lr=1e-2))
    net = load_contour(load_file(work / FILE))
    latents = torch.from_numpy(np.load(work / "latents.npy")[None, :60].astype(np.float32)).expand(64, -1, -1)
    with torch.inference_mode():
        takes = net(latents, torch.randn(64, 2, generator=torch.Generator().manual_seed(0)))
    assert float(takes.mean(1).std()) > 0.4, "takes are high and low"
    assert float(takes.std(1).mean()) < 0.4 * float(takes.mean(1).std()), (
        "and each of them is one of the two throughout"
    )


def test_only_voiced_frames_are_compared() -> None:
    off, voiced = torch.zeros(2, 70), torch.ones(2, 70)
    same = float(contour_distance(off, voiced))
    voiced[:, 20:40] = 0.0
    off[:, 20:40] = 50.0
    assert float(contour_distance(off, voiced)) == pytest.approx(same, rel=0.05)
    off[:, 50] = 1.0
    assert float(contour_distance(off, voiced)) > 2 * same
    assert torch.isfinite(contour_distance(torch.ones(1, 2), torch.ones(1, 2)))


class Killed(Exception):
    pass


@pytest.mark.parametrize("last", [4, 7, 12])
def test_killed_and_started_again_it_ends_with_the_same_bits(tmp_path: Path, last: int) -> None:
    work = toy(tmp_path)
    whole = train(work, out="whole.safetensors")

    def kill(report: MelodyReport) -> None:
        if report.step == last:
            raise Killed

    with pytest.raises(Killed):
        train(work, report=kill)
    # How it is heard, and how often it is saved, may be thought over.
    resumed = train(work, replace(SHORT, depth=0.7, noise_scale=0.5, save_every=100))
    assert resumed[0].step == (last - 1) // 4 * 4 + 1
    assert resumed[-1].explained == whole[-1].explained
    assert (work / FILE).read_bytes() == (work / "whole.safetensors").read_bytes()
    assert not (work / f"{FILE}.run").exists()


def test_a_run_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    work = toy(tmp_path)

    def kill(report: MelodyReport) -> None:
        if report.step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(work, report=kill)
    for changed in ({"training": replace(SHORT, lr=1e-3)}, {"weights": {"kim": 2.0}}):
        with pytest.raises(ModelError, match=r"other settings: (lr|weights)"):
            train(work, **changed)
    assert len(load_contour(load_file(work / FILE)).mean) == 6, "what was saved is whole"


def test_weights_say_who_is_heard(tmp_path: Path) -> None:
    data = Intonation.open(toy(tmp_path) / "corpus", tmp_path / "latents.npy", 500)
    shares = data.shares({"kim": 3.0})
    kim = np.array([item.speaker == "kim" for item in data.train])
    assert shares.sum() == pytest.approx(1.0)
    assert shares[kim].sum() == pytest.approx(0.75)


def test_registers_are_those_of_the_speakers(tmp_path: Path) -> None:
    found = speaker_registers(toy(tmp_path) / "corpus", ["tom", "kim"])
    assert found["kim"].hz == pytest.approx(110, rel=0.06)
    assert found["tom"].hz == pytest.approx(220, rel=0.06)
    with pytest.raises(ModelError, match=r"'ann': almost no voiced speech"):
        speaker_registers(tmp_path / "corpus", ["ann"])


def test_who_says_little_is_left_out(tmp_path: Path) -> None:
    work = toy(tmp_path)
    track, items = read_pitches(work / "corpus"), list(read_items(work / "corpus"))
    assert track is not None
    for item in [item for item in items if item.speaker == "tom"][1:]:
        track[item.offset : item.offset + item.frames] = 0.0
    track.tofile(work / "corpus" / "pitch.f32")
    data = Intonation.open(work / "corpus", work / "latents.npy", 500)
    assert {item.speaker for item in data.train} == {"kim"}
    with pytest.raises(ModelError, match="nobody is heard"):
        train(work, replace(SHORT, least_voiced_s=100.0))


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    work = toy(tmp_path)
    with pytest.raises(ModelError, match=r"weights\.ann: no speaker 'ann' in the corpus; there are: kim, tom"):
        train(work, weights={"ann": 2.0})
    with pytest.raises(ModelError, match=r"(energy|gradient) of melodies is .* lower melody\.lr"):
        train(work, replace(SHORT, lr=1e30))
    with full_disk(300), pytest.raises(ModelError, match="could not write"):
        train(work)
    assert not (work / FILE).exists()
    latents = np.load(work / "latents.npy")
    np.save(work / "latents.npy", latents[:-1])
    with pytest.raises(ModelError, match=r"latents\.npy has \d+ frames"):
        train(work)
    np.save(work / "latents.npy", latents)
    track = read_pitches(work / "corpus")
    assert track is not None
    track[:-1].tofile(work / "corpus" / "pitch.f32")
    with pytest.raises(ModelError, match=r"pitch\.f32 has \d+ values for \d+ frames"):
        train(work)
    (work / "corpus" / "pitch.f32").unlink()
    with pytest.raises(ModelError, match=r"has no pitch\.f32") as caught:
        train(work)
    assert caught.value.param == "melody"


def test_a_melody_needs_recordings_at_a_locked_pitch(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    data, melody = recipe.data, recipe.melody
    assert melody is not None
    check_recipe(recipe)
    texts = replace(data, manifests=(), texts="sentences.txt")
    wrong = [replace(recipe, data=other) for other in (replace(data, lock_pitch=False), texts)]
    wrong += [replace(recipe, melody=replace(melody, **change)) for change in ({"depth": 5.0}, {"steps": 0})]
    for changed, named in zip(wrong, ("melody", "melody", "melody.depth", "melody.steps"), strict=True):
        with pytest.raises(ConfigError, match=r"^melody") as caught:
            check_recipe(changed)
        assert caught.value.param == named
    (tmp_path / "sentences.txt").write_text("one\n", encoding="utf-8")
    assert with_data(recipe, tmp_path / "sentences.txt").melody is None, "flite reads at one pitch"


def test_step_by_step_it_becomes_part_of_a_voice(tmp_path: Path) -> None:
    work = toy(tmp_path, dims=small_codec_config().dimension)
    done = CliRunner().invoke(app, ["melody", str(work), "--steps", "2"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output.splitlines()[-1])["step"] == 2
    Codec(small_codec_config()).save(work / "codec")
    train_tokenizer(["a b"], 260).save(work / "tokenizer")
    done = CliRunner().invoke(app, ["sled", str(work), "--steps", "0"])
    assert done.exit_code == 0, done.output
    extras = load_bundle(str(work / "voice")).extras
    assert extras.melody is not None
    assert (extras.pitches_hz, extras.speech_level) == ((100.0, 150.0), 0.07)
    (work / "corpus" / "pitch.f32").unlink()
    done = CliRunner().invoke(app, ["melody", str(work)])
    assert done.exit_code == 1
    assert "has no pitch.f32" in done.output
