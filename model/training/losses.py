"""The SLED training loss: energy distance of two samples per frame plus the stop loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sled_tts.model.sled import Sled
from sled_tts.model.training.layout import PromptSpan, TrainingLayout, embed_layout, layout_for

STOP_POSITIVE_WEIGHT = 100.0


@dataclass(frozen=True)
class LossParts:
    """Scalars `loss`, `energy`, `stop`; `energy_per_frame [B, S]`; `z [B, S + 1, H]`; `stop_logits [B, S + 1]`."""

    loss: Tensor
    energy: Tensor
    stop: Tensor
    energy_per_frame: Tensor
    z: Tensor
    stop_logits: Tensor


def _distance(a: Tensor, b: Tensor, smooth: float) -> Tensor:
    """Euclidean distance over the last axis. `smooth` keeps the gradient finite where a == b."""
    if smooth == 0.0:
        exact: Tensor = torch.linalg.vector_norm(a - b, dim=-1)
        return exact
    return ((a - b).pow(2).sum(-1) + smooth).sqrt()


def energy_distance(
    first: Tensor,
    second: Tensor,
    target: Tensor,
    *,
    repulsion: bool = True,
    smooth: float = 0.0,
    metric: Tensor | None = None,
) -> Tensor:
    """`|s1 - y| + |s2 - y| - |s1 - s2|` per frame (arXiv 2505.13181, eq. 6, beta = 1); `[..., D] -> [...]`.

    `repulsion=False` is the paper's ablation without the last term. `metric [D, D]` multiplies all three first.
    """
    if metric is not None:
        with torch.autocast(first.device.type, enabled=False):  # differences of large numbers
            first, second, target = (latents.float() @ metric for latents in (first, second, target))
    attraction = _distance(first, target, smooth) + _distance(second, target, smooth)
    return attraction - _distance(first, second, smooth) if repulsion else attraction


def drop_text(ids: Tensor, text_mask: Tensor, dropped: Tensor, *, streaming: bool, eos: int) -> tuple[Tensor, Tensor]:
    """Classifier-free guidance: rows in `dropped [B]` keep `</s>` and nothing else of their text.

    Offline the last (left-padded) column holds it; streaming the first column becomes it, so that the row
    starts as the guidance row of inference does. Returns new `ids, text_mask [B, T]`.
    """
    keep = torch.zeros_like(text_mask[:1], dtype=torch.bool)
    column = 0 if streaming else text_mask.shape[1] - 1
    keep[:, column] = True
    rows = dropped.bool()[:, None]
    return torch.where(rows & keep, eos, ids), torch.where(rows, keep, text_mask.bool())


def condition_states(model: Sled, ids: Tensor, read: Tensor, layout: TrainingLayout) -> Tensor:
    """The states `z [B, S + 1, H]` that predict frame s and, after the last frame, the stop.

    `ids [B, T]`, `read [B, S, D]`: the text and the latents that the network reads.
    """
    embeds = embed_layout(model.embed_text(ids), model.embed_speech(read), layout)
    ragged = bool((~layout.attention_mask[:, :-1] & layout.attention_mask[:, 1:]).any())
    # Right padding cannot be seen by causal attention: no mask, and the fast kernel.
    hidden = model.forward_full(embeds, layout.attention_mask if ragged else None)
    return hidden.gather(1, layout.condition[..., None].expand(-1, -1, hidden.shape[-1]))


def sled_loss(
    model: Sled,
    ids: Tensor,
    text_mask: Tensor,
    latents: Tensor,
    speech_mask: Tensor,
    noise: tuple[Tensor, Tensor],
    *,
    speech_inputs: Tensor | None = None,
    repulsion: bool = True,
    stop_weight: float = 1.0,
    stop_positive_weight: float = STOP_POSITIVE_WEIGHT,
    smooth: float = 0.0,
    compact: bool = False,
    prompts: Sequence[PromptSpan] | None = None,
    pacing: tuple[int, int] | None = None,
    metric: Tensor | None = None,
) -> LossParts:
    """Training loss of one batch.

    `ids, text_mask [B, T]` (offline: left-padded; streaming: right-padded), `latents [B, S, D]`,
    `speech_mask [B, S]`, `noise`: two draws `[B, S, C]`. `speech_inputs` replaces the latents the network
    reads (not the targets), for noise augmentation; `compact` lays each row out by its own
    lengths, `prompts` says how much of each row is a prompt, `pacing` is an n:m other than the model's own,
    `metric` one for the energy (see `metric.py`). The energy is averaged over real frames; the stop loss over
    `sum(frames + 1)` states with label 1 after the last frame (reference behaviour).
    """
    layout = layout_for(model.config, text_mask, speech_mask, compact=compact, prompts=prompts, pacing=pacing)
    z = condition_states(model, ids, latents if speech_inputs is None else speech_inputs, layout)
    logits = model.stop_logit(z)
    frames = speech_mask.sum(1)
    steps = torch.arange(latents.shape[1] + 1, device=latents.device)
    label = (steps[None, :] == frames[:, None]).float()
    counted = steps[None, :] <= frames[:, None]
    stop = F.binary_cross_entropy_with_logits(
        logits.float(), label, pos_weight=torch.tensor(stop_positive_weight, device=latents.device), reduction="none"
    )
    stop = (stop * counted).sum() / counted.sum()
    states = z[:, :-1]
    first, second = (model.generator(states, draw).float() for draw in noise)
    per_frame = energy_distance(first, second, latents.float(), repulsion=repulsion, smooth=smooth, metric=metric)
    # Padded frames may hold anything, NaN included: select, do not multiply.
    energy = torch.where(speech_mask.bool(), per_frame, 0.0).sum() / speech_mask.sum()
    return LossParts(energy + stop_weight * stop, energy, stop, per_frame, z, logits)
