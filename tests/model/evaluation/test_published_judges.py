"""The paper's judges on networks of their own kind, with random weights and few of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.published_judges import HubertCtc, WavLmTdnn

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 4), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
NOISE = (0.1 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32)


def _features() -> object:
    return transformers.Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=16_000, do_normalize=True)


def test_hubert_spells_words(tmp_path: Path) -> None:
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
    (tmp_path / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(letters)}), encoding="utf-8")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    transformers.Wav2Vec2Processor(_features(), tokenizer).save_pretrained(tmp_path / "hubert")
    config = transformers.HubertConfig(**SMALL, vocab_size=len(letters))
    transformers.HubertForCTC(config).save_pretrained(tmp_path / "hubert")
    judge = HubertCtc.load(str(tmp_path / "hubert"))
    heard = judge.words(NOISE, 24_000)
    assert heard == judge.words(NOISE, 24_000)
    assert all(word == word.lower() and word.strip("'abcdefghijklmnopqrstuvwxyz") == "" for word in heard)


def test_wavlm_gives_a_unit_vector_of_a_voice(tmp_path: Path) -> None:
    config = transformers.WavLMConfig(
        **SMALL, tdnn_dim=(16, 16, 24), tdnn_kernel=(5, 3, 1), tdnn_dilation=(1, 2, 1), xvector_output_dim=12
    )
    transformers.WavLMForXVector(config).save_pretrained(tmp_path / "wavlm")
    _features().save_pretrained(tmp_path / "wavlm")  # type: ignore[attr-defined]
    judge = WavLmTdnn.load(str(tmp_path / "wavlm"))
    embedded = judge.embedding(NOISE, 24_000)
    assert embedded.shape == (12,)
    assert float(embedded @ embedded) == pytest.approx(1.0, abs=1e-5)
    assert not np.allclose(embedded, judge.embedding(NOISE[::-1].copy(), 24_000))


def test_weights_that_cannot_be_had_are_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing could not be fetched or read"):
        WavLmTdnn.load(str(tmp_path / "nothing"))
