"""What one micro-batch contributes to the objective of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sled_tts.model.sled import Sled
from sled_tts.model.training.batches import Batch
from sled_tts.model.training.losses import condition_states, sled_loss


@dataclass(frozen=True)
class Objective:
    """Weights and helps. `repulsion=False` is the paper's RMSE ablation (no second sample to move away from).

    `self_feeding`: how often the network reads its own first-pass samples in part; `input_noise`: most noise on what
    it reads, in standard deviations; `text_drop`: share of rows without text (classifier-free guidance).
    """

    text_drop: float = 0.1
    input_noise: float = 0.5
    self_feeding: float = 0.7
    phone_weight: float = 1.0
    stop_weight: float = 0.3
    stop_positive_weight: float = 20.0
    repulsion: bool = True
    precision: str = "bf16"

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision must be bf16 or fp32, got {self.precision!r}")


@dataclass(frozen=True)
class Counts:
    """How much a batch holds, so that a mean over many batches can be a mean over their frames."""

    frames: float = 0.0
    states: float = 0.0
    labelled: float = 0.0

    @classmethod
    def of(cls, batch: Batch) -> Counts:
        frames = float(batch.speech_mask.sum())
        return cls(frames, frames + len(batch.ids), float((batch.phones >= 0).sum()))

    def as_list(self) -> list[float]:
        return [self.frames, self.states, self.labelled]


def micro_batch_loss(
    model: Sled,
    phone_head: nn.Linear,
    batch: Batch,
    objective: Objective,
    seed: Sequence[int],
    total: Counts,
    pacing: tuple[int, int] | None = None,
    metric: Tensor | None = None,
) -> tuple[Tensor, list[float]]:
    """The batch's share of the loss of all batches of a step, whose counts are `total`, and its sums of energy, stop
    loss and right phones over their `total`.

    All randomness comes from `seed`, so that it depends neither on the process nor on what ran before. `pacing` is
    the n:m to interleave by, the configuration's own by default; `metric [D, D]` is one for the energy.
    """
    device, config = batch.latents.device, model.config
    rng = np.random.default_rng(list(seed))
    torch.manual_seed(int(rng.integers(2**62)))
    dropped = torch.from_numpy(rng.random(len(batch.ids)) < objective.text_drop).to(device)
    given = batch.without_text(dropped, config)
    shape = (*batch.speech_mask.shape, config.generator.noise_channels)

    def draw(*size: int) -> Tensor:
        return torch.randn(size).to(device)

    def noisy(read: Tensor) -> Tensor:
        level = objective.input_noise * torch.rand(len(read), 1, 1).to(device)
        return read + level * draw(*read.shape)

    read = batch.latents
    with torch.autocast(device.type, torch.bfloat16, enabled=objective.precision == "bf16"):
        if rng.random() < objective.self_feeding:
            layout = given.layout(config, pacing)
            with torch.no_grad():
                states = condition_states(model, given.ids, noisy(read), layout)
                sampled = model.generator(states[:, :-1], draw(*shape)).float()
            share = torch.rand(len(read), 1, 1)
            read = torch.where((torch.rand(*shape[:2], 1) < share).to(device), sampled, read)
        parts = sled_loss(
            model,
            given.ids,
            given.text_mask,
            batch.latents,
            batch.speech_mask,
            (draw(*shape), draw(*shape)),
            speech_inputs=noisy(read),
            repulsion=objective.repulsion,
            stop_positive_weight=objective.stop_positive_weight,
            smooth=1e-6,
            compact=True,
            prompts=given.prompts if config.is_streaming else None,
            pacing=pacing,
            metric=metric,
        )
        phone_logits = phone_head(parts.z[:, :-1])
    own = Counts.of(batch)
    known = batch.phones >= 0
    phone = F.cross_entropy(phone_logits[known].float(), batch.phones[known], reduction="sum")
    right = (phone_logits[known].argmax(-1) == batch.phones[known]).sum()
    # A sum over at least one: a step may hold no labelled frame at all.
    labelled = max(total.labelled, 1.0)
    energy, stop = parts.energy * (own.frames / total.frames), parts.stop * (own.states / total.states)
    loss = energy + objective.stop_weight * stop + objective.phone_weight * phone / labelled
    return loss, [float(part.detach()) for part in (energy, stop, right / labelled)]
