"""Training the SLED network: energy distance, stop loss, text dropping, and two helps for small budgets.

The helps: what the network reads is not the true latents but noisy ones, part of them its own samples of a
first pass (free-running, it never reads anything else; trained on the truth alone it loses its place in the
text after a few words); and an auxiliary phone classifier on the conditioning states, whose labels the
corpus may know; it makes attention find the text within a few hundred steps and is thrown away afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sled_tts.model.config import SledConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.sled import Sled
from sled_tts.model.training.averaging import MovingAverage
from sled_tts.model.training.batches import Batch, TrainingData, collate
from sled_tts.model.training.metric import EnergyMetric, Spread, energy_metric, measure_spread
from sled_tts.model.training.objective import Counts, Objective, micro_batch_loss
from sled_tts.model.training.pairing import PairedBatches, Pairing
from sled_tts.model.training.resume import Resumable, RunState, save_checkpoint
from sled_tts.model.training.schedule import linear_schedule
from sled_tts.model.training.workers import Workers


@dataclass(frozen=True)
class SledTraining:
    """Hyper-parameters of a run. `positions` bounds the padded size of a micro-batch (text and frames together); a
    step sees `accumulation` micro-batches on every process.

    `pacings`: n:m pairs of which each micro-batch draws one, so that one streaming checkpoint serves several; empty
    for the configuration's own. `metric_from`: the step at which the network is asked on `metric_batches` of its
    micro-batches what it can foretell, and from which the energy is measured accordingly (see `metric.py`); None for
    the paper's Euclidean distance throughout. `average`: decay of a moving average of the weights, which is then what
    is saved and returned; 0 for the weights themselves.
    """

    steps: int = 6000
    positions: int = 2400
    accumulation: int = 1
    lr: float = 1.2e-3
    warmup: int = 200
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    lower_case: float = 0.1
    prompts: Pairing = field(default_factory=Pairing)
    pacings: tuple[tuple[int, int], ...] = ()
    objective: Objective = field(default_factory=Objective)
    metric_from: int | None = None
    metric_batches: int = 40
    average: float = 0.0
    save_every: int = 500
    report_every: int = 50
    seed: int = 0


@dataclass(frozen=True)
class StepReport:
    """Means over the steps since the last report; `gradient` is the norm before clipping."""

    step: int
    seconds: float
    lr: float
    energy: float
    stop: float
    phone_accuracy: float
    gradient: float


@dataclass(frozen=True)
class _MicroBatch:
    batch: Batch
    seed: list[int]
    pacing: tuple[int, int] | None


def train_sled(
    data: TrainingData,
    config: SledConfig,
    training: SledTraining,
    checkpoint: Path,
    *,
    report: Callable[[StepReport], None] | None = None,
    saved: Callable[[Sled, int], None] | None = None,
    start: Sled | None = None,
    workers: Workers | None = None,
    weights: Mapping[str, float] | None = None,
) -> Sled:
    """Train from `start` (or from nothing) and save to `checkpoint` every `save_every` steps: the network's tensors
    as safetensors, and beside them, in `<checkpoint>.run`, what is needed to go on. `saved` is called after each save
    with the network and the step; it must leave both as they are. `weights`: by speaker, how often an utterance comes
    in an epoch (see `speakers.repeated`), once for those without.

    A run that finds its `.run` file goes on from there and ends bit for bit as it would have without the interruption
    (same machine and threads). Raises ModelError on a loss that is not finite, when the disk is full, and for a
    `.run` file of a run with other settings; what was saved last stays as it was.
    """
    workers = workers or Workers()
    lanes = data.lanes(workers.size * training.accumulation)
    most = config.max_position_embeddings
    batches = PairedBatches(data, training.positions, training.prompts, training.seed, lanes, most, weights or {})
    model, head, optimiser = _begin(data, config, training, start, workers)
    metric = EnergyMetric()
    parts: dict[str, Resumable] = {
        "model": model,
        "head": head,
        "optimiser": optimiser,
        "batches": batches,
        "metric": metric,
    }
    average = MovingAverage(model, training.average) if training.average else None
    spoken = model if average is None else average.model
    run = RunState(0, parts if average is None else parts | {"average": average})
    settings = _settings(training, config, data, lanes, weights)
    resume = checkpoint.with_name(checkpoint.name + ".run")
    if resume.exists():
        run.restore(resume, settings)
    trained = [*model.parameters(), *head.parameters()]
    began, window = time.monotonic(), list[list[float]]()
    while run.step < training.steps:
        lr = linear_schedule(run.step, steps=training.steps, warmup=training.warmup, peak=training.lr)
        for group in optimiser.param_groups:
            group["lr"] = lr
        if metric.matrix is None and training.metric_from is not None and run.step >= training.metric_from:
            metric.matrix = _measured(model, batches, training, run.step, workers)
        micro = [_micro_batch(batches, training, config, index) for index in _own(run.step, training, workers)]
        counts = np.sum([Counts.of(m.batch).as_list() for m in micro], axis=0)
        total = Counts(*workers.total(counts.tolist()))
        optimiser.zero_grad(set_to_none=True)
        figures = np.zeros(3)
        for m in micro:
            loss, own = micro_batch_loss(
                model, head, m.batch.to(workers.device), training.objective, m.seed, total, m.pacing, metric.matrix
            )
            loss.backward()  # type: ignore[no-untyped-call]
            figures += own
        workers.sum_gradients(trained)
        figures = np.asarray(workers.total(figures.tolist()))
        if not np.isfinite(figures).all():
            raise ModelError(f"energy and stop loss are {figures[:2].tolist()} at step {run.step}; lower the lr")
        gradient = nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        if not bool(torch.isfinite(gradient)):
            raise ModelError(f"the gradient is not finite at step {run.step}; lower the lr")
        optimiser.step()
        run.step += 1
        if average is not None:
            average.update(model, run.step)
        window.append([*figures.tolist(), float(gradient)])
        if report is not None and workers.leads and run.step % training.report_every == 0:
            energy, stop, right, norm = np.mean(window, axis=0).tolist()
            report(StepReport(run.step, time.monotonic() - began, lr, energy, stop, right, norm))
            window = []
        if run.step % training.save_every and run.step != training.steps:
            continue
        batches.share(workers)
        if workers.leads:
            save_checkpoint(spoken, checkpoint)
            run.save(resume, settings)
            if saved is not None:
                saved(spoken, run.step)
    workers.wait()
    return spoken.eval()


def _begin(
    data: TrainingData, config: SledConfig, training: SledTraining, start: Sled | None, workers: Workers
) -> tuple[Sled, nn.Linear, torch.optim.Optimizer]:
    """Fresh weights from the seed, the same in every process."""
    torch.manual_seed(training.seed)
    model = Sled(config) if start is None else start
    if start is None:
        model.init_weights()
    head = nn.Linear(config.hidden_size, max(1, len(data.phone_names)))
    model.to(workers.device).train().requires_grad_(True)
    head.to(workers.device)
    both: list[Tensor] = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in both if p.ndim > 1], "weight_decay": training.weight_decay},
            {"params": [p for p in both if p.ndim <= 1], "weight_decay": 0.0},
        ],
        betas=training.betas,
    )
    return model, head, optimiser


def _own(step: int, training: SledTraining, workers: Workers) -> range:
    """The micro-batches of this step that this process takes, of those all processes share out."""
    first = (step * workers.size + workers.rank) * training.accumulation
    return range(first, first + training.accumulation)


def _micro_batch(batches: PairedBatches, training: SledTraining, config: SledConfig, index: int) -> _MicroBatch:
    rng = np.random.default_rng([training.seed, index, 1])
    corpus, pairs = batches[index]
    utterances = [
        corpus.utterance(item, lower=bool(rng.random() < training.lower_case), prompt=prompt) for prompt, item in pairs
    ]
    pacing = training.pacings[int(rng.integers(len(training.pacings)))] if training.pacings else None
    batch = collate(utterances, left_pad_text=not config.is_streaming)
    return _MicroBatch(batch, [training.seed, index, 2], pacing)


def _measured(model: Sled, batches: PairedBatches, training: SledTraining, step: int, workers: Workers) -> Tensor:
    """The metric of what the network foretells of the micro-batches to come, all processes' together."""
    config = model.config
    steps = range(step, step + max(1, training.metric_batches // (workers.size * training.accumulation)))
    own = (
        _micro_batch(batches, training, config, index).batch.to(workers.device)
        for ahead in steps
        for index in _own(ahead, training, workers)
    )
    spread = measure_spread(model, own, seed=training.seed)
    return energy_metric(Spread.from_list(workers.total(spread.as_list()))).to(workers.device)


def _settings(
    training: SledTraining, config: SledConfig, data: TrainingData, lanes: int, weights: Mapping[str, float] | None
) -> dict[str, Any]:
    """What must be the same for a run to go on as it began. How often it saves or reports may change."""
    plain = asdict(training)
    del plain["save_every"], plain["report_every"]
    # As text: what is compared has been through a file.
    return {name: repr(value) for name, value in plain.items()} | {
        "config": repr(config),
        "data": data.describe(),
        "lanes": lanes,
        "weights": repr(sorted(weights.items())) if weights else None,
    }
