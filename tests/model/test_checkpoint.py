"""Loading: folders, the hub's cache layout without a network, strictness."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from sled_tts.model.checkpoint import BUILT_IN, ENCODEC_HUB_ID, ModelBundle, load_bundle, save_bundle
from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.errors import CheckpointError, ModelError
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.tokenizer import train_tokenizer
from tests.model.factories import tiny

VOCAB = 300


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole small checkpoint, codec included, as the product writes it."""
    folder = tmp_path_factory.mktemp("checkpoint") / "voice"
    torch.manual_seed(0)
    model, _ = tiny(1, vocab_size=VOCAB, stream_n=3, stream_m=4)
    codec = Codec(CodecConfig(dimension=10, n_filters=2, n_q=2, codebook_size=16)).eval()
    tokenizer = train_tokenizer(["some words to learn some words from"] * 3, VOCAB)
    save_bundle(
        folder,
        model,
        tokenizer,
        codec,
        {"name": "tiny", "latent_mean": 0.5, "latent_std": 2.0},
        dtype=torch.float32,
    )
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "voice"))


def _edit(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace or (None) remove tensors; dots in names are written as two underscores."""
    path = folder / "model.safetensors"
    state = load_file(path)
    for key, value in changes.items():
        name = key.replace("__", ".")
        state.pop(name, None)
        if value is not None:
            state[name] = value
    save_file(state, path)


def _speak(bundle: ModelBundle) -> torch.Tensor:
    request = GenerationRequest(bundle.tokenizer.encode("some words"), seeded_noise(1, 6), 12)
    return generate(bundle.sled, [request], n=3, m=4, ignore_stop=True)[0].latents


def test_what_was_saved_speaks_the_same(saved: Path) -> None:
    bundle = load_bundle(str(saved))
    original, _ = tiny(1, vocab_size=VOCAB, stream_n=3, stream_m=4)
    request = GenerationRequest(bundle.tokenizer.encode("some words"), seeded_noise(1, 6), 12)
    want = generate(original, [request], n=3, m=4, ignore_stop=True)[0].latents
    torch.testing.assert_close(_speak(bundle), want, atol=1e-5, rtol=1e-5)
    assert (bundle.name, bundle.is_streaming) == ("tiny", True)
    assert bundle.codec.decode(want[None]).shape == (1, 12 * 320)
    latents = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bundle.normalise(latents), (latents - 0.5) / 2.0)
    torch.testing.assert_close(bundle.denormalise(bundle.normalise(latents)), latents)


def test_tensors_of_training_and_of_the_codec_are_ignored(folder: Path) -> None:
    _edit(folder, bceloss__pos_weight=torch.tensor([100.0]), codec__decoder__bias=torch.zeros(3))
    assert torch.equal(_speak(load_bundle(str(folder))), _speak(load_bundle(str(folder))))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"z_proj__bias": None}, "tensor z_proj.bias is missing"),
        (
            {"model__layers__1__self_attn__q_proj__weight": None},
            "model.layers.1.self_attn.q_proj.weight is missing",
        ),
        ({"lm_head__weight": torch.zeros(3, 3)}, "unexpected tensor lm_head.weight"),
        (
            {"eos_head__weight": torch.zeros(1, 25)},
            r"eos_head.weight has shape \(1, 25\), expected \(1, 24\)",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(folder: Path, changes: dict[str, Any], named: str) -> None:
    _edit(folder, **changes)
    with pytest.raises(CheckpointError, match=named):
        load_bundle(str(folder))


def test_a_codec_tensor_that_does_not_fit_is_named(folder: Path) -> None:
    path = folder / "codec" / "model.safetensors"
    state = load_file(path)
    removed = next(name for name in state if name.endswith("conv.bias"))
    save_file({k: v for k, v in state.items() if k != removed}, path)
    with pytest.raises(CheckpointError, match=removed.replace(".", r"\.")):
        load_bundle(str(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.json", "merges.txt"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_bundle(str(folder))


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_damaged_weights_are_an_error_not_a_crash(folder: Path, damage: str) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000] if damage == "cut" else b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_bundle(str(folder))


def test_pickles_are_never_read(folder: Path) -> None:
    """A folder that only has pytorch_model.bin is refused; nothing unpickles it."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_bundle(str(folder))


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("config.json", {"num_layers": 3}, "num_layers"),
        ("config.json", {"vocab_size": 280}, "vocabulary|embed_tokens"),
        ("sled_tts.json", {"latent_meen": 3}, "latent_meen"),
        ("sled_tts.json", {"latent_std": 0.0}, "latent_std"),
        ("sled_tts.json", {"cloned_cfg_scale": 10.5}, "cloned_cfg_scale"),
        ("sled_tts.json", {"cloned_cfg_scale": -0.1}, "cloned_cfg_scale"),
        ("sled_tts.json", {"pitches_hz": [100, 150], "reference_pitch_hz": 120}, "reference_pitch_hz"),
        ("sled_tts.json", {"pitches_hz": [100, 150], "reference_pitch_hz": 150}, "reference_pitch_hz.*melody"),
        ("sled_tts.json", {"codec": "elsewhere"}, "elsewhere"),
        ("codec/config.json", {"dimension": 12}, "codec"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(folder: Path, file: str, change: dict[str, Any], named: str) -> None:
    data = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(data | change))
    with pytest.raises(ModelError, match=named):
        load_bundle(str(folder))


def test_broken_json_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not valid JSON"):
        load_bundle(str(folder))


@pytest.mark.parametrize("spec", ["no such folder", "./nowhere", "a/b/c", ""])
def test_a_spec_that_is_nothing_says_what_it_could_be(spec: str) -> None:
    with pytest.raises(CheckpointError, match="neither a folder, nor a hub id"):
        load_bundle(spec)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


def _into_cache(cache: Path, repo: str, source: Path) -> None:
    """Lay a folder out as the hub's client does: blobs, a snapshot of links, a ref."""
    home, commit = cache / f"models--{repo.replace('/', '--')}", "0" * 39 + "1"
    for part in ("blobs", "refs", f"snapshots/{commit}"):
        (home / part).mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    for number, file in enumerate(sorted(f for f in source.iterdir() if f.is_file())):
        blob = home / "blobs" / f"{number:040x}"
        shutil.copyfile(file, blob)
        (home / "snapshots" / commit / file.name).symlink_to(Path("../../blobs") / blob.name)


def test_a_hub_id_and_its_encodec_come_from_the_cache(folder: Path, hub_cache: Path) -> None:
    """The published layout: no sled_tts.json, the codec being Encodec from its own repository."""
    want = _speak(load_bundle(str(folder)))
    _into_cache(hub_cache, ENCODEC_HUB_ID, folder / "codec")
    (folder / "sled_tts.json").unlink()
    shutil.rmtree(folder / "codec")
    _into_cache(hub_cache, "ICTNLP/SLED-TTS-Streaming-Libriheavy", folder)
    bundle = load_bundle("ICTNLP/SLED-TTS-Streaming-Libriheavy")
    assert torch.equal(_speak(bundle), want)
    assert bundle.name == "SLED-TTS-Streaming-Libriheavy"
    assert torch.equal(bundle.normalise(want), want)


def test_a_hub_id_not_in_the_cache_says_so_when_offline(hub_cache: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ICTNLP/SLED-TTS-Libriheavy is not in the local cache"):
        load_bundle("ICTNLP/SLED-TTS-Libriheavy")


def test_a_cached_model_without_its_encodec_names_the_encodec(folder: Path, hub_cache: Path) -> None:
    (folder / "sled_tts.json").unlink()
    _into_cache(hub_cache, "some/model", folder)
    with pytest.raises(CheckpointError, match=ENCODEC_HUB_ID):
        load_bundle("some/model")


def test_weights_may_be_loaded_in_half_precision(saved: Path) -> None:
    bundle = load_bundle(str(saved), dtype=torch.bfloat16)
    assert bundle.sled.z_proj.weight.dtype == torch.bfloat16
    assert bundle.codec.quantizer.codebooks.dtype == torch.float32
    assert bool(torch.isfinite(_speak(bundle).float()).all())


PACKAGED = Path(str(resources.files("sled_tts.model"))) / "builtin" / "model.safetensors"


@pytest.mark.skipif(not PACKAGED.is_file(), reason="no voice is packaged in this tree")
def test_the_built_in_voice_loads_by_name_and_makes_sound() -> None:
    bundle = load_bundle(BUILT_IN)
    assert bundle.name
    request = GenerationRequest(
        bundle.tokenizer.encode("hello"), seeded_noise(1, bundle.config.generator.noise_channels), 40
    )
    n, m = bundle.config.stream_n, bundle.config.stream_m
    (result,) = generate(bundle.sled, [request], n=n, m=m, ignore_stop=True)
    wave = bundle.codec.decode(bundle.denormalise(result.latents)[None])[0]
    assert wave.shape == (40 * bundle.codec.config.hop_length,)
    assert bool(torch.isfinite(wave).all())
    assert float(wave.square().mean().sqrt()) > 1e-3


@pytest.mark.skipif(PACKAGED.is_file(), reason="a voice is packaged in this tree")
def test_a_missing_built_in_voice_is_said() -> None:
    with pytest.raises(CheckpointError, match="built-in voice is not part"):
        load_bundle(BUILT_IN)
