"""A voice of a checkpoint with the sound of its recordings."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import typer
from typer.testing import CliRunner

from sled_tts.model.checkpoint import BUILT_IN, load_bundle, resolve
from sled_tts.model.melody.likening import sound_levels
from sled_tts.model.speaking import lines_in, sound_of, speak_lines

lhotse = pytest.importorskip("lhotse", reason="the train extra is not installed")
from sled_tts.model.training.own_voice import main  # noqa: E402

TEXTS = ("Bright yellow leaves were falling on the path.", "He found both of these coins under the floor.")


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(main)
    answer = CliRunner().invoke(app, list(arguments))
    return answer.exit_code, answer.output


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another voice of the checkpoint as if it had been recorded, without treble."""
    folder, bundle = tmp_path_factory.mktemp("cuts"), load_bundle(BUILT_IN)
    rate, lines = bundle.codec.config.sampling_rate, list[str]()
    said = speak_lines(bundle, lines_in(bundle, bundle.voice("slt"), TEXTS), cfg_scale=2.0, seed=0)
    for k, (text, one) in enumerate(zip(TEXTS, said, strict=True)):
        spectrum = np.fft.rfft(one.wave)
        spectrum[len(spectrum) // 2 :] *= 0.1
        soundfile.write(folder / f"c{k}.wav", np.fft.irfft(spectrum, len(one.wave)), rate)
        cut = lhotse.Recording.from_file(folder / f"c{k}.wav", recording_id=f"c{k}").to_cut()
        told = lhotse.SupervisionSegment(f"c{k}", f"c{k}", 0.0, cut.duration, text=text, speaker="slt")
        lines.append(json.dumps(replace(cut, id=f"c{k}", supervisions=[told]).to_dict()) + "\n")
    (folder / "cuts.jsonl").write_text("".join(lines))
    return folder / "cuts.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resolve(BUILT_IN), tmp_path / "voice"))


def test_a_voice_gets_prompt_pitch_and_sound_of_its_recordings(folder: Path, manifest: Path) -> None:
    told = ("--prompt", "0", "1.5", "--told", "Bright yellow leaves")
    code, output = run(str(folder), "linda", "c0", "c1", "--cuts", str(manifest), *told, "--write")
    assert code == 0, output
    before, after = load_bundle(BUILT_IN), load_bundle(str(folder))
    assert [voice.id for voice in after.extras.voices] == [voice.id for voice in before.extras.voices]
    old, new = before.voice("linda"), after.voice("linda")
    assert old is not None
    assert new is not None
    assert (new.text, len(new.latents), new.description) == ("Bright yellow leaves", 75, old.description)
    assert new.register is not None
    assert new.register.locked_hz == 150.0
    assert new.register.hz == pytest.approx(172, rel=0.1), "slt's"
    heard = [sound_of(after, new.latents, new.register, how) for how in (None, new.dynamics)]
    plain, likened = (np.median(sound_levels([wave]), axis=0)[70:120].mean() for wave in heard)
    assert likened < plain - 5, "without treble"
    (said,) = speak_lines(after, lines_in(after, new, ["One more."]), cfg_scale=2.0, seed=0)
    (flat,) = speak_lines(after, lines_in(after, old, ["One more."]), cfg_scale=2.0, seed=0)
    assert not torch.equal(said.latents[: len(flat.latents)], flat.latents[: len(said.latents)])
    kept = json.loads((folder / "sled_tts.json").read_text())
    assert {key for key in kept if kept[key] != json.loads((resolve(BUILT_IN) / "sled_tts.json").read_text())[key]} == {
        "voices"
    }


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nobody", "c0"), "nobody"),
        (("linda", "c0", "c9"), "c9"),
        (("linda", "c0", "--told", "half"), "--prompt"),
    ],
)
def test_what_cannot_be_is_named(folder: Path, manifest: Path, arguments: tuple[str, ...], named: str) -> None:
    before = (folder / "sled_tts.json").read_bytes()
    code, output = run(str(folder), *arguments, "--cuts", str(manifest), "--write")
    assert code == 1
    assert named in output
    assert (folder / "sled_tts.json").read_bytes() == before


def test_a_checkpoint_without_a_melody_has_no_sound_of_its_own(folder: Path, manifest: Path) -> None:
    about = json.loads((folder / "sled_tts.json").read_text())
    del about["melody"], about["reference_pitch_hz"]
    (folder / "sled_tts.json").write_text(json.dumps(about))
    code, output = run(str(folder), "linda", "c0", "--cuts", str(manifest))
    assert code == 1
    assert "melody" in output
