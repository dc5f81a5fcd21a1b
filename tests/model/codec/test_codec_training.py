"""The codec's training loop on a minute of tones: it learns them, with and without the quantiser in the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.training.codec_loop import CodecTraining, train_codec
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
