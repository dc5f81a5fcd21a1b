"""Small random models for tests: every parameter away from its neutral value, so that nothing hides."""

from __future__ import annotations

from typing import Any

import torch

from sled_tts.model.config import SledConfig
from sled_tts.model.sled import Sled
from tests.reference import NaiveSled

TINY: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "vocab_size": 60,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "vae_embed_dim": 10,
    "diffloss_d": 2,
    "diffloss_w": 16,
    "noise_channels": 6,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}


def tiny(seed: int = 0, **changes: Any) -> tuple[Sled, NaiveSled]:
    """A random model in evaluation mode and the oracle over the same weights."""
    config = TINY | changes
    model = Sled(SledConfig.from_dict(config)).eval()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=rng)
            if parameter.dim() == 2:
                parameter.copy_(draw * (0.5 if "embed_tokens" in name else parameter.shape[1] ** -0.5))
            else:
                parameter.copy_(0.2 * draw + (1.0 if "norm" in name or name.endswith("ln.weight") else 0.0))
    return model, NaiveSled(config, model.state_dict())


def token_ids(count: int, seed: int) -> list[int]:
    """`<s> ... </s>` of `count >= 2` ids."""
    rng = torch.Generator().manual_seed(seed)
    middle = torch.randint(4, TINY["vocab_size"], (count - 2,), generator=rng).tolist()
    return [0, *middle, 2]
