"""A network that grows says what it said, and learns with its new layers."""

from __future__ import annotations

import pytest
import torch

from sled_tts.model.checkpoint import load_sled_state
from sled_tts.model.errors import ModelError
from sled_tts.model.sled import Sled
from sled_tts.model.training.growth import grow_network
from tests.model.factories import tiny


def network(layers: int, seed: int = 3) -> Sled:
    return tiny(seed, num_hidden_layers=layers)[0]


@pytest.mark.parametrize(("has", "layers"), [(2, 2), (2, 3), (3, 4), (2, 5), (1, 4)])
def test_new_layers_change_nothing_at_first_and_can_learn(has: int, layers: int) -> None:
    old, grown = network(has), network(layers, seed=4)
    load_sled_state(grown, grow_network(old.state_dict(), layers))
    given = torch.randn(2, 9, old.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(grown.forward_full(given), old.forward_full(given), atol=1e-6, rtol=1e-5)
    grown.requires_grad_(True)
    grown.forward_full(given).square().mean().backward()
    moved = [layer.mlp.down_proj.weight.grad for layer in grown.layers]
    assert all(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in moved)


def test_new_layers_stand_between_the_old_ones() -> None:
    old = network(3)
    grown = grow_network(old.state_dict(), 5)
    silent = [not grown[f"model.layers.{k}.mlp.down_proj.weight"].any() for k in range(5)]
    assert silent == [False, False, True, False, True]
    # What a new layer reads is what the one before it reads.
    for part in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"):
        assert torch.equal(grown[f"model.layers.2.{part}.weight"], grown[f"model.layers.1.{part}.weight"])


def test_only_growing() -> None:
    with pytest.raises(ModelError, match="num_hidden_layers must be at least the checkpoint's 3, got 2"):
        grow_network(network(3).state_dict(), 2)


def test_a_file_that_is_no_network_is_refused_by_whoever_loads_it() -> None:
    with pytest.raises(ModelError, match=r"tensor .* is missing"):
        load_sled_state(network(2), grow_network({"other": torch.zeros(1)}, 2))
