"""Loading a model: a local folder, a hub id, or the built-in voice. Strict, and safetensors only.

A folder holds `config.json`, `model.safetensors`, `vocab.json`, `merges.txt` (the published layout). An
optional `sled_tts.json` says what that layout cannot: which codec belongs to the model, how latents are
normalised, how long a text the model was trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import save_file
from torch import Tensor

from sled_tts.model.bundle import ModelBundle as ModelBundle
from sled_tts.model.bundle import ModelExtras as ModelExtras
from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.weights import read_safetensors
from sled_tts.model.config import SledConfig
from sled_tts.model.errors import CheckpointError
from sled_tts.model.quantization import Precision
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import Tokenizer

BUILT_IN = "built-in"
ENCODEC_HUB_ID = "facebook/encodec_24khz"
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_MODEL_FILES = [
    "config.json",
    "model.safetensors",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "sled_tts.json",
    "voice-*.safetensors",
]


def load_sled_state(model: Sled, state: Mapping[str, Tensor]) -> None:
    """Copy a state dict in; a missing, extra or wrongly shaped tensor is an error that names it."""
    state = {k: v for k, v in state.items() if k != "bceloss.pos_weight" and not k.startswith("codec.")}
    own = model.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise CheckpointError(f"tensor {name} is missing", param=name)
        if state[name].shape != tensor.shape:
            got, want = tuple(state[name].shape), tuple(tensor.shape)
            raise CheckpointError(f"tensor {name} has shape {got}, expected {want}", param=name)
    extra = sorted(set(state) - set(own))
    if extra:
        raise CheckpointError(f"unexpected tensor {extra[0]}", param=extra[0])
    model.load_state_dict({name: state[name].float() for name in own})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path.name} is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path.name} must hold a JSON object")
    return data


def _download(repo: str, patterns: list[str]) -> Path:
    """A hub snapshot in the local cache: resumable, with progress bars, offline when HF_HUB_OFFLINE is set."""
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns))
    except RepositoryNotFoundError:
        raise CheckpointError(f"{repo} does not exist on the hub, or is private") from None
    except LocalEntryNotFoundError:
        raise CheckpointError(f"{repo} is not in the local cache and the hub cannot be reached") from None
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"downloading {repo} failed, run again to resume: {error}") from error


def resolve(spec: str) -> Path:
    """`built-in`, an existing folder, or a hub id, to a local folder."""
    if spec == BUILT_IN:
        folder = Path(str(resources.files("sled_tts.model").joinpath("builtin")))
        if not (folder / "model.safetensors").is_file():
            raise CheckpointError("the built-in voice is not part of this installation")
        return folder
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        return path
    if _HUB_ID.match(spec) and not spec.startswith((".", "/")):
        return _download(spec, _MODEL_FILES)
    raise CheckpointError(
        f"model {spec!r} is neither a folder, nor a hub id (owner/name), nor {BUILT_IN!r}", param="model"
    )


def _load_codec(folder: Path, extras: ModelExtras, codec: str | None) -> Codec:
    spec = codec or extras.codec
    if spec is None:
        return Codec.load(_download(ENCODEC_HUB_ID, ["config.json", "model.safetensors"]))
    for candidate in (folder / spec, Path(spec).expanduser()):
        if candidate.exists():
            return Codec.load(candidate)
    if _HUB_ID.match(spec):
        return Codec.load(_download(spec, ["config.json", "model.safetensors"]))
    raise CheckpointError(f"codec {spec!r} was not found", param="codec")


def load_bundle(
    spec: str,
    *,
    codec: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    precision: Precision = Precision.FP32,
) -> ModelBundle:
    """Load a model and its codec, ready for inference; `precision` is how a CPU holds the network's weights.

    Raises CheckpointError or ConfigError.
    """
    folder = resolve(spec)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing in {folder}", param=name)
    config = SledConfig.from_dict(_read_json(folder / "config.json"))
    extras_file = folder / "sled_tts.json"
    name = spec if spec == BUILT_IN else spec.rstrip("/").split("/")[-1]
    extras = ModelExtras.from_dict(
        _read_json(extras_file) if extras_file.is_file() else {},
        name=name,
        latent_dim=config.latent_dim,
        folder=folder,
        config=config,
    )
    sled = Sled(config)
    load_sled_state(sled, read_safetensors(folder / "model.safetensors"))
    loaded_codec = _load_codec(folder, extras, codec)
    if loaded_codec.config.dimension != config.latent_dim:
        raise CheckpointError(
            f"the codec's latents are {loaded_codec.config.dimension} wide, the model's {config.latent_dim}",
            param="vae_embed_dim",
        )
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"the vocabulary has {tokenizer.vocab_size} entries, the embedding {config.vocab_size}",
            param="vocab_size",
        )
    # The codec stays in fp32 whatever the network runs in.
    return ModelBundle(
        name=extras.name,
        config=config,
        sled=sled.to(device=device, dtype=dtype).prepare_for_inference(precision),
        tokenizer=tokenizer,
        codec=loaded_codec.to(device),
        extras=extras,
    )


def save_bundle(
    folder: Path,
    sled: Sled,
    tokenizer: Tokenizer,
    codec: Codec | None,
    extras: Mapping[str, Any],
    *,
    dtype: torch.dtype,
) -> None:
    """Write a checkpoint folder in the published layout, with `sled_tts.json` and `codec/` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(sled.config.to_dict(), indent=1) + "\n", encoding="utf-8")
    tokenizer.save(folder)
    if codec is not None:
        codec.save(folder / "codec", dtype=dtype)
        extras = {**extras, "codec": "codec"}
    (folder / "sled_tts.json").write_text(json.dumps(dict(extras)) + "\n", encoding="utf-8")
    save_file({k: v.to(dtype).contiguous() for k, v in sled.state_dict().items()}, folder / "model.safetensors")
