"""Where a network looks in the text while it writes a frame: the attention of the heads that follow the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sled_tts.model.config import SledConfig
from sled_tts.model.errors import CheckpointError
from sled_tts.model.layers import DecoderLayer, rotate

_KEYS = frozenset({"layer", "heads", "lead_s"})


@dataclass(frozen=True)
class AlignmentHeads:
    """`heads` of `layer` follow the text, `lead_s` ahead of the sound: `alignment` in `sled_tts.json`, found by
    `model.training.alignment_heads`. One layer, so that looking costs one more projection a step."""

    layer: int
    heads: tuple[int, ...]
    lead_s: float = 0.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None, config: SledConfig | None = None) -> AlignmentHeads | None:
        """None for None. Raises CheckpointError for wrong keys, no heads, and heads that `config` does not have."""
        if data is None:
            return None
        if wrong := sorted(set(data) ^ _KEYS):
            raise CheckpointError(f"sled_tts.json: alignment: unknown or missing key {wrong[0]}", param="alignment")
        made = cls(int(data["layer"]), tuple(int(head) for head in data["heads"]), float(data["lead_s"]))
        layers, width = (config.num_hidden_layers, config.num_attention_heads) if config else (10**9, 10**9)
        if not made.heads or not 0 <= made.layer < layers or not all(0 <= head < width for head in made.heads):
            raise CheckpointError(
                f"sled_tts.json: alignment: this network has no heads {list(made.heads)} in a layer {made.layer}",
                param="alignment.heads",
            )
        return made

    def to_dict(self) -> dict[str, Any]:
        return {"layer": self.layer, "heads": list(self.heads), "lead_s": self.lead_s}


@dataclass(frozen=True)
class Watched:
    """Packed column `column`, at `position` of cache row `row`, which holds text at `text [T]`."""

    column: int
    row: int
    position: int
    text: Tensor


def _place(numbers: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(numbers, device=device)


@dataclass
class TextWatch:
    """Filled while a step runs: `looks` then has a distribution `[T]` over the text for each watched column.

    It asks a second time instead of taking part in the step's own attention, so that the step's numbers are the same
    whether anybody watches or not, and however its attention is computed.
    """

    heads: AlignmentHeads
    watched: Sequence[Watched]
    # A caller with pinned memory brings numbers to the device without waiting for it.
    place: Callable[[Sequence[int], torch.device], Tensor] = _place
    looks: list[Tensor] = field(default_factory=list, init=False)

    @property
    def layer(self) -> int:
        return self.heads.layer

    def see(self, layer: DecoderLayer, x: Tensor, keys: Tensor, cos: Tensor, sin: Tensor) -> None:
        """The watched layer read `x [N, H]` and has `keys [rows, heads, capacity, head_dim]`; `cos`, `sin` are tables
        `[positions, head_dim]`."""
        # Two rows at least: a product of one takes another kernel, and looks would depend on who shares the step.
        columns = self.place([w.column for w in self.watched] * 2, x.device)
        position = self.place([w.position for w in self.watched] * 2, x.device)
        queries = layer.self_attn.joint(layer.input_layernorm(x[columns]))[:, 0]
        queries = rotate(queries, cos[position][:, None], sin[position][:, None])[:, self.heads.heads, :, None]
        for query, watched in zip(queries, self.watched, strict=False):
            held = keys[watched.row, self.heads.heads][:, watched.text].to(query.dtype)
            score = (held @ query)[..., 0].float() / held.shape[-1] ** 0.5
            self.looks.append(score.softmax(-1).mean(0))
