"""Shares of variance that a network foretells of recordings, and how its samples scatter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from sled_tts.model.checkpoint import ModelBundle, save_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.cli import app
from sled_tts.model.evaluation.foretelling import Foretold, foretold_page, foretold_spread, recorded_corpus
from sled_tts.model.evaluation.utterances import Utterance, of_speaker, read_utterances
from sled_tts.model.training.metric import Spread, directions
from tests.model.evaluation.small import small_bundle


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Noise that swells: four utterances of one speaker, two of another."""
    bundle = small_bundle()
    rate, hop = bundle.codec.config.sampling_rate, bundle.codec.config.hop_length
    rng, lines = np.random.default_rng(0), []
    for index in range(6):
        frames = 24 + 3 * index
        wave = 0.2 * rng.standard_normal(frames * hop) * np.repeat(rng.uniform(0.1, 1, frames), hop)
        name = f"{'ann' if index < 4 else 'bob'}-{index}.wav"
        soundfile.write(tmp_path / name, wave, rate, subtype="FLOAT")
        lines.append(json.dumps({"audio_filepath": name, "text": f"text {index}", "duration": len(wave) / rate}))
    path = tmp_path / "held-out.json"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def recordings(manifest: Path) -> list[Utterance]:
    return read_utterances(manifest)


def test_known_covariances_give_known_shares() -> None:
    shares, scatter = torch.linspace(0.1, 1.0, 40).double(), torch.linspace(0.2, 0.9, 40).double()
    turn = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(0)).double())[0]
    root = turn @ torch.diag(torch.linspace(5.0, 1.0, 40).double())

    def turned(of: torch.Tensor) -> torch.Tensor:
        return 100 * root @ torch.diag(of) @ root.T

    spread = Spread(turned(torch.ones(40).double()), turned(shares), turned(scatter), 100)
    found = Foretold.of(spread, directions(spread, floor=0.0)[0])
    torch.testing.assert_close(found.left, shares)
    torch.testing.assert_close(found.scatter, scatter)
    assert found.row() == pytest.approx(
        {f"left_{n}": float(shares[:n].mean()) for n in (8, 16, 32)}
        | {f"scatter_{n}": float(scatter[:n].mean()) for n in (8, 16, 32)}
        | {"left_all": float(shares.mean()), "scatter_all": float(scatter.mean())}
    )


@pytest.mark.parametrize("streaming", [True, False])
def test_every_recording_counts_once_and_prompts_do_not(streaming: bool, recordings: list[Utterance]) -> None:
    bundle = small_bundle() if streaming else small_bundle(stream_n=None, stream_m=None)
    corpus = recorded_corpus(bundle, recordings)
    spread = foretold_spread(bundle, corpus, samples=4, seed=0)
    assert corpus.left_out == 0
    assert spread.frames == sum(24 + 3 * index for index in range(6))
    truth = torch.from_numpy(np.asarray(corpus.latents[:])).double()
    torch.testing.assert_close(spread.total, truth.T @ truth)


def test_samples_without_noise_do_not_scatter(recordings: list[Utterance]) -> None:
    bundle = small_bundle()
    alive = foretold_page([bundle], recordings, samples=6, seed=0).rows[0]
    assert alive["scatter_all"] > 0.001
    with torch.no_grad():
        bundle.sled.generator.input_proj.weight.zero_()
    dead = foretold_page([bundle], recordings, samples=6, seed=0).rows[0]
    assert dead["scatter_all"] == pytest.approx(0.0, abs=1e-9)
    assert dead["left_all"] > 0.1


def test_checkpoints_are_compared_along_the_same_directions(recordings: list[Utterance]) -> None:
    one, other = small_bundle(), replace(small_bundle(), sled=small_bundle(1).sled, name="other")
    page = foretold_page([one, other], recordings, samples=4, seed=0)
    again = foretold_page([one], recordings, samples=4, seed=0)
    assert page.rows[0] == again.rows[0]
    assert page.rows[1]["left_all"] != pytest.approx(page.rows[0]["left_all"], rel=1e-3)
    louder = replace(one.extras, latent_std=one.extras.latent_std / 2)
    with pytest.raises(ModelError, match="other latents for the same speech"):
        foretold_page([one, replace(other, extras=louder)], recordings, samples=4, seed=0)


def test_what_the_network_cannot_read_is_left_out(recordings: list[Utterance]) -> None:
    bundle: ModelBundle = small_bundle()
    long = replace(recordings[0], text="a text that is much longer than the speech that is said to speak it " * 2)
    corpus = recorded_corpus(bundle, [*recordings, long])
    assert (len(corpus.items), corpus.left_out) == (6, 1)
    with pytest.raises(ModelError, match="none of 1 utterances"):
        recorded_corpus(bundle, [long])
    with pytest.raises(ModelError, match="no recordings of 'zoe'; there are: ann, bob"):
        of_speaker(recordings, "zoe")


def test_the_command_writes_a_page(manifest: Path, tmp_path: Path) -> None:
    bundle = small_bundle()
    extras = {"name": "small", "latent_mean": 0.3, "latent_std": 2.0, "speech_prompts": True}
    save_bundle(tmp_path / "model", bundle.sled, bundle.tokenizer, bundle.codec, extras, dtype=torch.float32)
    options = ["--data", str(manifest), "--model", str(tmp_path / "model"), "--speaker", "ann", "--shortest", "0"]
    done = CliRunner().invoke(app, ["foretell", *options, "--samples", "3", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    page = json.loads((tmp_path / "foretell.json").read_text(encoding="utf-8"))
    assert page["rows"][0]["frames"] == sum(24 + 3 * index for index in range(4))
    assert len(page["data"][0]["left"]) == bundle.config.latent_dim
    assert "4 recordings (0 left out" in page["scale"]
    assert "left, all" in (tmp_path / "foretell.md").read_text(encoding="utf-8")
