"""A small real checkpoint and a small real corpus."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sled_tts.model.checkpoint import ModelBundle, ModelExtras
from sled_tts.model.codec.codec import Codec
from sled_tts.model.tokenizer import Tokenizer, train_tokenizer
from sled_tts.model.training.batches import encode_corpus
from sled_tts.model.training.synthetic import CorpusItem
from sled_tts.model.voices import BuiltInVoice
from tests.fakes import tiny_codec
from tests.model.factories import tiny

VOCABULARY = 260


def byte_tokenizer() -> Tokenizer:
    return train_tokenizer(["a"], VOCABULARY)


def small_bundle(seed: int = 0, *, voices: int = 0, blocks: bool = True, **changes: Any) -> ModelBundle:
    """Streaming 3:4 unless `stream_n=None, stream_m=None`; speech of random weights, which ends when it likes."""
    codec = tiny_codec(seed)
    shape = {"stream_n": 3, "stream_m": 4, "vocab_size": VOCABULARY, "vae_embed_dim": codec.config.dimension} | changes
    model, _ = tiny(seed, **{key: value for key, value in shape.items() if value is not None})
    width = codec.config.dimension
    rng = torch.Generator().manual_seed(seed)
    spoken = tuple(
        BuiltInVoice(f"v{i}", f"V{i}", "well said", torch.randn(6, width, generator=rng)) for i in range(voices)
    )
    extras = ModelExtras(
        "small", torch.full((width,), 0.3), torch.full((width,), 2.0), max_segment_chars=60, max_frames_per_token=3.0,
        speech_prompts=blocks, voices=spoken,
    )  # fmt: skip
    return ModelBundle("small", model.config, model, byte_tokenizer(), codec, extras)


def small_corpus(folder: Path, codec: Codec, utterances: int = 10) -> Path:
    """A working folder as `sled-tts train` leaves it, of noise: 20 frames an utterance."""
    hop = codec.config.hop_length
    (folder / "corpus").mkdir(parents=True)
    rng = np.random.default_rng(0)
    samples = (3000 * rng.standard_normal(utterances * 20 * hop)).astype("<i2")
    (folder / "corpus" / "audio.i16").write_bytes(samples.tobytes())
    items = [
        CorpusItem(i, f"number {i}", 20 * i, 20, ["a", "b"] * 10, "ann" if i % 2 else "bob") for i in range(utterances)
    ]
    lines = "".join(json.dumps(asdict(item)) + "\n" for item in items)
    (folder / "corpus" / "items.jsonl").write_text(lines, encoding="utf-8")
    codec.save(folder / "codec")
    byte_tokenizer().save(folder / "tokenizer")
    encode_corpus(folder / "corpus", codec, folder / "latents.npy")
    return folder
