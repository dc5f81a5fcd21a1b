"""The codec's training loop on a minute of tones: it learns them, with and without the quantiser in the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.training.codec_loop import CodecReport, CodecTraining, train_codec
from tests.model.codec.factories import SMALL, random_codec

SHORT = CodecTraining(steps=160, batch=4, seconds=0.1, spectral_from=60, lr=4e-3, noise=0.05, rvq_latents=400)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    time = np.arange(16_000 * 20) / 16_000
    wave = 0.2 * np.sin(2 * np.pi * 220 * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time))
    (wave * 32767).astype("<i2").tofile(tmp_path / "audio.i16")
    return tmp_path


def relative_error(codec: Codec, corpus: Path, *, quantised: bool) -> float:
    samples = np.fromfile(corpus / "audio.i16", dtype="<i2")[:4800].astype(np.float32) / 32768
    wave = torch.from_numpy(samples)[None, None]
    with torch.no_grad():
        latents = codec.encoder(wave)
        if quantised:
            latents = codec.quantizer.decode(codec.quantizer.encode(latents.transpose(1, 2))).transpose(1, 2)
        return float((codec.decoder(latents) - wave).square().mean() / wave.square().mean())


@pytest.mark.parametrize("quantize", [False, True])
def test_the_codec_learns_and_so_do_its_codebooks(corpus: Path, tmp_path: Path, quantize: bool) -> None:
    codec = train_codec(corpus, SMALL, replace(SHORT, quantize=quantize), tmp_path / "codec")
    saved = Codec.load(tmp_path / "codec")
    assert relative_error(saved, corpus, quantised=False) == pytest.approx(
        relative_error(codec, corpus, quantised=False), rel=1e-3
    )
    assert relative_error(saved, corpus, quantised=True) < 0.7


def test_a_loss_that_is_not_finite_leaves_the_saved_codec(corpus: Path, tmp_path: Path) -> None:
    codec = random_codec(SMALL)
    codec.save(tmp_path / "codec")
    before = (tmp_path / "codec" / "model.safetensors").read_bytes()
    next(codec.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="at step 0"):
        train_codec(corpus, SMALL, SHORT, tmp_path / "codec", start=codec)
    assert (tmp_path / "codec" / "model.safetensors").read_bytes() == before


class Killed(Exception):
    pass


def kill_at(step: int) -> Callable[[CodecReport], None]:
    def report(done: CodecReport) -> None:
        if done.step == step:
            raise Killed

    return report


@pytest.mark.parametrize("quantize", [False, True])
def test_killed_and_resumed_ends_with_the_same_bits(corpus: Path, tmp_path: Path, quantize: bool) -> None:
    training = replace(SHORT, quantize=quantize, steps=60, spectral_from=20, save_every=20)
    train_codec(corpus, SMALL, training, tmp_path / "whole")
    with pytest.raises(Killed):
        train_codec(corpus, SMALL, training, tmp_path / "cut", report=kill_at(50))
    assert (tmp_path / "cut.run").exists()
    assert not (tmp_path / "cut").exists()
    steps: list[int] = []
    train_codec(corpus, SMALL, training, tmp_path / "cut", report=lambda done: steps.append(done.step))
    assert steps == [50, 60], "it goes on after the last save"
    assert not (tmp_path / "cut.run").exists()
    name = "model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_with_other_settings_or_a_damaged_one_is_not_resumed(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train_codec(corpus, SMALL, replace(SHORT, save_every=40), tmp_path / "codec", report=kill_at(50))
    with pytest.raises(ModelError, match=r"other settings: lr \(.*remove it"):
        train_codec(corpus, SMALL, replace(SHORT, lr=1.0), tmp_path / "codec")
    (tmp_path / "codec.run").write_bytes((tmp_path / "codec.run").read_bytes()[:500])
    with pytest.raises(ModelError, match=r"codec\.run is no saved training run"):
        train_codec(corpus, SMALL, SHORT, tmp_path / "codec")


def test_too_little_sound_is_said(tmp_path: Path) -> None:
    np.zeros(500, dtype="<i2").tofile(tmp_path / "audio.i16")
    with pytest.raises(ModelError, match="500 samples, training needs more than"):
        train_codec(tmp_path, SMALL, SHORT, tmp_path / "codec")
