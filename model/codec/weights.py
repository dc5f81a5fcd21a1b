"""Reading Encodec weights: the `encodec` package layout, the transformers layout, and our own folders.

Both public layouts hold the same numbers. Weight norm (`w = g * v / |v|`, norm over all axes but the
first) is folded here. Every tensor must be accounted for: a missing, unexpected or wrongly shaped one
is an error that names it.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.errors import CheckpointError

# Training-time buffers of the quantiser; inference does not read them.
_IGNORED = re.compile(r"\.(embed_avg|cluster_size|inited)$")
_CODEBOOK = re.compile(r"quantizer\.vq\.layers\.(\d+)\._codebook\.embed$")


def _package_name(key: str, decoder_transposed: set[str]) -> str:
    """One transformers key in the `encodec` package's spelling."""
    key = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", key)
    key = re.sub(r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.vq.layers.\1._codebook.", key)
    key = key.replace(".parametrizations.weight.original0", ".weight_g")
    key = key.replace(".parametrizations.weight.original1", ".weight_v")
    stem, _, leaf = key.rpartition(".conv.")
    if stem and not stem.endswith(".conv"):
        name = "convtr" if stem in decoder_transposed else "conv"
        key = f"{stem}.{name}.{name}.{leaf}"
    return key


def to_package_layout(state: Mapping[str, Tensor], config: CodecConfig) -> dict[str, Tensor]:
    """Bring either public layout to the package's key names."""
    if any(key.startswith("encoder.model.") for key in state):
        return dict(state)
    first = 1 + (1 if config.lstm else 0)
    stage = 2 + config.residual_layers_of_decoder
    transposed = {f"decoder.model.{first + 1 + stage * i}" for i in range(len(config.ratios))}
    return {_package_name(key, transposed): value for key, value in state.items()}


def _filter_norms(v: Tensor) -> Tensor:
    """Norm over all axes but the first, broadcastable."""
    norms: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return norms.view(-1, *[1] * (v.ndim - 1))


def fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each `weight_g`, `weight_v` pair by the weight it stands for."""
    folded = {key: value for key, value in state.items() if not key.endswith((".weight_g", ".weight_v"))}
    stems = sorted({key[:-1] for key in state if key.endswith((".weight_g", ".weight_v"))})
    for stem in stems:
        for key in (stem + "g", stem + "v"):
            if key not in state:
                raise CheckpointError(f"codec tensor {key} is missing", param=key)
        # In fp32 also when the file holds half precision.
        g, v = state[stem + "g"].float(), state[stem + "v"].float()
        norm = _filter_norms(v)
        if g.shape != norm.shape:
            raise CheckpointError(
                f"codec tensor {stem}g has shape {tuple(g.shape)}, expected {tuple(norm.shape)}", param=f"{stem}g"
            )
        # A filter of zeros has no direction; it stays zero instead of becoming NaN.
        folded[stem.removesuffix("_")] = v * (g / norm.clamp_min(torch.finfo(torch.float32).tiny))
    return folded


def split_codebooks(state: Mapping[str, Tensor], config: CodecConfig) -> dict[str, Tensor]:
    """Gather the first `n_q` codebooks into `quantizer.codebooks [n_q, size, D]`.

    The published file holds 32 of them; 6 kbps uses the first 8.
    """
    rest: dict[str, Tensor] = {}
    books: dict[int, Tensor] = {}
    for key, value in state.items():
        match = _CODEBOOK.match(key)
        if match:
            books[int(match.group(1))] = value
        elif not _IGNORED.search(key):
            rest[key] = value
    for index in range(config.n_q):
        if index not in books:
            name = f"quantizer.vq.layers.{index}._codebook.embed"
            raise CheckpointError(f"codec tensor {name} is missing", param=name)
        expected = (config.codebook_size, config.dimension)
        if tuple(books[index].shape) != expected:
            name = f"quantizer.vq.layers.{index}._codebook.embed"
            got = tuple(books[index].shape)
            raise CheckpointError(f"codec tensor {name} has shape {got}, expected {expected}", param=name)
    rest["quantizer.codebooks"] = torch.stack([books[index].float() for index in range(config.n_q)])
    return rest


def import_state(state: Mapping[str, Tensor], config: CodecConfig) -> dict[str, Tensor]:
    """Any supported layout to the state dict of `codec.networks` modules."""
    return split_codebooks(fold_weight_norm(to_package_layout(state, config)), config)


def export_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `import_state`: the package layout, weight norm unfolded, codebooks apart."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if key == "quantizer.codebooks":
            for index, book in enumerate(value):
                out[f"quantizer.vq.layers.{index}._codebook.embed"] = book.contiguous()
        elif key.endswith(("conv.conv.weight", "convtr.convtr.weight")):
            out[key + "_v"] = value.contiguous()
            out[key + "_g"] = _filter_norms(value)
        else:
            out[key] = value.contiguous()
    return out


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file; CheckpointError when it is cut short or something else."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} in {path.parent} is damaged: {error}", param=path.name) from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read `.safetensors`, or Encodec's own `.th`: without unpickling code, and only when the file's
    SHA-256 starts with the checksum the publisher put into its name (`encodec_24khz-d7cc33bc.th`)."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix != ".th":
        raise CheckpointError(f"{path.name}: codec weights must be .safetensors or Encodec's .th")
    match = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if match is None:
        raise CheckpointError(f"{path.name}: the file name carries no checksum to verify it by")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(match.group(1)):
        raise CheckpointError(f"{path.name}: SHA-256 {digest[:8]}... does not match the name; download it again")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path.name} is not a plain state dict: {error}", param=path.name) from None
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path.name}: expected a state dict of tensors", param=path.name)
    return dict(loaded)
