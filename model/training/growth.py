"""A deeper decoder, or network, that starts as the one it grew from.

More residual layers see more of the wave at every rate for little work. Training them from nothing would throw away
what the decoder has learnt; layers that begin as the identity do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.networks import ResidualBlock
from sled_tts.model.errors import ModelError

_LAYERS = "model.layers."


@torch.no_grad()
def grow_decoder(codec: Codec, residual_layers: int) -> Codec:
    """The same codec with `residual_layers` behind each upsampling of its decoder; new ones change nothing yet.

    Encoder and codebooks are the same. The first convolution of a new layer is drawn from torch's global generator.
    Raises ModelError when the decoder has more layers than that.
    """
    has = codec.config.residual_layers_of_decoder
    if residual_layers < has:
        raise ModelError(f"residual_layers must be at least the decoder's {has}, got {residual_layers}")
    if residual_layers == has:
        return codec
    grown = Codec(replace(codec.config, decoder_residual_layers=residual_layers))
    grown.encoder.load_state_dict(codec.encoder.state_dict())
    grown.quantizer.load_state_dict(codec.quantizer.state_dict())
    held, behind = iter(codec.decoder.model), 0
    for layer in grown.decoder.model:
        behind = behind + 1 if isinstance(layer, ResidualBlock) else 0
        if behind > has:
            _make_identity(layer)
        else:
            layer.load_state_dict(next(held).state_dict())
    return grown.train(codec.training).requires_grad_(False)


def _make_identity(block: nn.Module) -> None:
    for name, module in block.named_modules():
        if isinstance(module, nn.Conv1d):
            assert module.bias is not None
            nn.init.zeros_(module.bias)
            nn.init.zeros_(module.weight)
            if "shortcut" in name:
                nn.init.eye_(module.weight[:, :, 0])
            elif module.kernel_size[0] > 1:
                nn.init.kaiming_normal_(module.weight)


def grow_network(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The tensors of a SLED with `layers` layers that computes what the one in `state` does.

    New layers stand between the old ones, evenly; each is a copy of the one before it whose outputs are zero, so that
    it looks where that one looks before it says anything. Raises ModelError when there are more layers than that.
    """
    # A file without any is no network; whoever loads it says what is missing.
    has = 1 + max((int(name.split(".")[2]) for name in state if name.startswith(_LAYERS)), default=layers - 1)
    if layers < has:
        raise ModelError(f"sled.num_hidden_layers must be at least the checkpoint's {has}, got {layers}")
    new = layers - has
    after = [-(-(k + 1) * has // new) - 1 for k in range(new)]
    order = [(old, copy > 0) for old in range(has) for copy in range(1 + after.count(old))]
    grown = {name: tensor for name, tensor in state.items() if not name.startswith(_LAYERS)}
    for place, (old, is_new) in enumerate(order):
        prefix = f"{_LAYERS}{old}."
        for name, tensor in state.items():
            if name.startswith(prefix):
                silent = is_new and name.endswith(("o_proj.weight", "down_proj.weight"))
                grown[f"{_LAYERS}{place}.{name[len(prefix) :]}"] = (
                    torch.zeros_like(tensor) if silent else tensor.clone()
                )
    return grown
