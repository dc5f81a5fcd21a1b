"""Real, tiny, random checkpoints: config, tokenizer, codec and weights in the published layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sled_tts.model.checkpoint import save_bundle
from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.tokenizer import train_tokenizer
from sled_tts.server.service import SpeechService
from sled_tts.server.wiring import load_service
from tests.model.factories import tiny

RATE = 16_000
_VOCAB = 300


def write_checkpoint(folder: Path, name: str, extras: dict[str, Any] | None = None, **changes: Any) -> Path:
    """`extras` join its `sled_tts.json`, `changes` its configuration."""
    torch.manual_seed(0)
    model, _ = tiny(1, vocab_size=_VOCAB, max_position_embeddings=1024, **changes)
    with torch.no_grad():
        # One coordinate of every input is large and positive and speaks against stopping: length limits end these
        # utterances, so that how much audio there is does not hang on chance.
        model.z_proj_ln.bias[0] = 4.0
        model.eos_head.weight.zero_()[0, 0] = -20.0
    codec = Codec(CodecConfig(sampling_rate=RATE, dimension=10, n_filters=2, n_q=2, codebook_size=16)).eval()
    # A new codec's codebooks are empty: every recording would sound the same to it.
    with torch.no_grad():
        codec.quantizer.fit(codec.encoder(0.2 * torch.randn(1, 1, RATE).cumsum(-1).sin())[0].T, iterations=3)
    tokenizer = train_tokenizer(["some words to learn some words from"] * 3, _VOCAB)
    # They never stop by themselves: a low bound keeps warming up short.
    own = {"name": name, "max_frames_per_token": 12.0}
    save_bundle(folder, model, tokenizer, codec, own | (extras or {}), dtype=torch.float32)
    return folder


@pytest.fixture(scope="session")
def streaming_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("streaming") / "voice", "tiny-streaming", stream_n=3, stream_m=4)


@pytest.fixture(scope="session")
def offline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("offline") / "voice", "tiny-offline")


Load = Callable[..., SpeechService]


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads checkpoints; what it loaded is closed after the test, also when no server took it over."""
    services: list[SpeechService] = []

    def loaded(*folders: Path, slots: int = 16, voices_dir: Path | None = None) -> SpeechService:
        specs = [str(f) for f in folders]
        services.append(load_service(specs, slots=slots, threads=1, device="cpu", voices_dir=voices_dir))
        return services[-1]

    yield loaded
    for service in services:
        service.close()
