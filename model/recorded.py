"""What replays of recorded reference cases share: networks out of a case, and how far a result is off."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sled_tts.model.checkpoint import load_sled_state
from sled_tts.model.config import SledConfig
from sled_tts.model.sled import Sled

# Names of what was compared, and the largest absolute error of each.
Errors = Iterator[tuple[str, float]]


def difference(got: Tensor, want: Tensor) -> float:
    """Largest absolute difference; infinite when shapes, an exact integer tensor, or NaN and number differ."""
    if got.shape != want.shape:
        return float("inf")
    if not want.is_floating_point():
        return 0.0 if torch.equal(got.to(want.dtype), want) else float("inf")
    if not want.numel():
        return 0.0
    largest = float((got.double() - want.double()).abs().max())
    return largest if math.isfinite(largest) else float("inf")


def recorded_model(case: dict[str, Any], data: dict[str, Tensor]) -> Sled:
    """The network of a case; `data` holds its weights under `sd.`."""
    config = SledConfig.from_dict(case["config"])
    # The reference does not guard its position limit and may have been recorded beyond it.
    used = sum(data[k].shape[1] for k in ("in.input_ids", "in.prompt_latents", "in.latents", "noise") if k in data)
    model = Sled(replace(config, max_position_embeddings=max(config.max_position_embeddings, used + 1)))
    load_sled_state(model, {key[3:]: value for key, value in data.items() if key.startswith("sd.")})
    return model.eval()
