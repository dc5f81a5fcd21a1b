"""Training the SLED network: energy distance, stop loss, text dropping, and two helps for small budgets.

The helps: what the network reads is not the true latents but noisy ones, part of them its own samples of a
first pass (free-running, it never reads anything else; trained on the truth alone it loses its place in the
text after a few words); and an auxiliary phone classifier on the conditioning states, whose labels the
synthetic corpus knows; it makes
attention find the text within a few hundred steps and is thrown away afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from sled_tts.model.config import SledConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.sled import Sled
from sled_tts.model.training.batches import Batch, Corpus, Pairing, collate, paired_batches
from sled_tts.model.training.layout import NO_PROMPT, layout_for
from sled_tts.model.training.losses import condition_states, drop_text, sled_loss


@dataclass(frozen=True)
class SledTraining:
    """Hyper-parameters; `positions` bounds the padded size of a batch (text and frames together)."""

    steps: int = 6000
    positions: int = 2400
    lr: float = 1.2e-3
    warmup: int = 200
    text_drop: float = 0.1
    lower_case: float = 0.1
    input_noise: float = 0.5
    self_feeding: float = 0.7
    phone_weight: float = 1.0
    prompts: Pairing = field(default_factory=Pairing)
    stop_weight: float = 0.3
    stop_positive_weight: float = 20.0
    save_every: int = 500
    seed: int = 0


@dataclass(frozen=True)
class StepReport:
    """Means over the steps since the last report."""

    step: int
    seconds: float
    energy: float
    stop: float
    phone_accuracy: float


def _learning_rate(training: SledTraining, step: int) -> float:
    return training.lr * min(1.0, (step + 1) / training.warmup) * max(0.02, 1.0 - step / training.steps)


def _noisy(latents: Tensor, most: float) -> Tensor:
    """Gaussian noise of a level drawn per utterance, up to `most` standard deviations."""
    level = most * torch.rand(len(latents), 1, 1)
    return latents + level * torch.randn_like(latents)


def _batch_loss(
    model: Sled, phone_head: nn.Linear, batch: Batch, training: SledTraining, rng: np.random.Generator
) -> tuple[Tensor, list[float]]:
    config = model.config
    dropped = torch.from_numpy(rng.random(len(batch.ids)) < training.text_drop)
    ids, text_mask = drop_text(
        batch.ids, batch.text_mask, dropped, streaming=config.is_streaming, eos=config.eos_token_id
    )
    shape = (*batch.speech_mask.shape, config.generator.noise_channels)
    prompts = None
    if config.is_streaming:
        # A row without text has nothing to interleave: its prompt is simply earlier speech.
        prompts = [NO_PROMPT if gone else p for gone, p in zip(dropped.tolist(), batch.prompts, strict=True)]
    read = batch.latents
    with torch.autocast(batch.latents.device.type, torch.bfloat16):
        if rng.random() < training.self_feeding:
            layout = layout_for(config, text_mask, batch.speech_mask, compact=True, prompts=prompts)
            with torch.no_grad():
                states = condition_states(model, ids, _noisy(read, training.input_noise), layout)
                sampled = model.generator(states[:, :-1], torch.randn(shape)).float()
            share = torch.rand(len(ids), 1, 1)
            read = torch.where(torch.rand(*shape[:2], 1) < share, sampled, read)
        parts = sled_loss(
            model,
            ids,
            text_mask,
            batch.latents,
            batch.speech_mask,
            (torch.randn(shape), torch.randn(shape)),
            speech_inputs=_noisy(read, training.input_noise),
            stop_weight=training.stop_weight,
            stop_positive_weight=training.stop_positive_weight,
            smooth=1e-6,
            compact=True,
            prompts=prompts,
        )
        phone_logits = phone_head(parts.z[:, :-1])
    known = batch.phones >= 0
    # A sum over a count of at least one: a batch may hold no labelled frame at all.
    count = known.sum().clamp(min=1)
    phone_loss = F.cross_entropy(phone_logits[known].float(), batch.phones[known], reduction="sum") / count
    accuracy = (phone_logits[known].argmax(-1) == batch.phones[known]).sum() / count
    loss = parts.loss + training.phone_weight * phone_loss
    return loss, [float(part.detach()) for part in (parts.energy, parts.stop, accuracy)]


def train_sled(
    corpus: Corpus,
    config: SledConfig,
    training: SledTraining,
    checkpoint: Path,
    *,
    report: Callable[[StepReport], None] | None = None,
    start: Sled | None = None,
) -> Sled:
    """Train, saving the network's tensors to `checkpoint` (safetensors) every `save_every` steps.

    Raises ModelError on a loss that is not finite; the last checkpoint stays as it was.
    """
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    model = Sled(config) if start is None else start
    if start is None:
        model.init_weights()
    model.train().requires_grad_(True)
    phone_head = nn.Linear(config.hidden_size, len(corpus.phone_names))
    matrices = [p for p in [*model.parameters(), *phone_head.parameters()] if p.ndim > 1]
    vectors = [p for p in [*model.parameters(), *phone_head.parameters()] if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    batches = paired_batches(corpus, training.positions, training.prompts, rng)
    began, window = time.monotonic(), []
    for step in range(training.steps):
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(training, step)
        utterances = [
            corpus.utterance(item, lower=bool(rng.random() < training.lower_case), prompt=prompt)
            for prompt, item in next(batches)
        ]
        loss, figures = _batch_loss(
            model, phone_head, collate(utterances, left_pad_text=not config.is_streaming), training, rng
        )
        if not bool(torch.isfinite(loss)):
            raise ModelError(f"loss is {float(loss.detach())} at step {step}; lower the learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        window.append(figures)
        if report is not None and (step + 1) % 50 == 0:
            energy, stop, accuracy = np.mean(window, axis=0)
            report(StepReport(step + 1, time.monotonic() - began, float(energy), float(stop), float(accuracy)))
            window = []
        if (step + 1) % training.save_every == 0 or step + 1 == training.steps:
            save_checkpoint(model, checkpoint)
    return model.eval()


def save_checkpoint(model: Sled, path: Path) -> None:
    """Write beside the old file and swap, so that an interruption never leaves half a checkpoint."""
    temporary = path.with_suffix(".partial")
    save_file({name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}, temporary)
    temporary.replace(path)
