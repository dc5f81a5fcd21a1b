"""Training the network that tells the natural pitch of speech from latents at one pitch (`model/melody/contour.py`).

Many pitches are right for a sentence, so it is trained as a sampler: by the energy score of two contours of different
noise (Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", 2007), whose distance looks
at contours as they are heard, in windows of a sound, a word and a phrase, and at how they move.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sled_tts.model.errors import ModelError
from sled_tts.model.melody.contour import ContourNet
from sled_tts.model.melody.melody import FILE, write_melody
from sled_tts.model.training.batches import normalisation
from sled_tts.model.training.intonation import Intonation
from sled_tts.model.training.resume import RunState, step_randomness, write_atomically
from sled_tts.model.training.schedule import linear_schedule
from sled_tts.model.training.speakers import require_speakers
from sled_tts.model.training.synthetic import CorpusItem, read_items

# Frames, and how far windows of the movement over `_MOVEMENT` frames reach.
_WINDOWS = (3, 16, 64)
_MOVEMENT, _MOVEMENT_WINDOW = 4, 8


@dataclass(frozen=True)
class MelodyTraining:
    """Hyper-parameters. `batch`: utterances. `warmup_share`: of the steps. `latent_noise` is added to the latents, in
    their standard deviations: what a network says is not quite what was recorded. `least_voiced_s`: speakers of whom
    less is voiced are left out. `depth`, `noise_scale`: how it is heard (see `melody.Melody`), not how it is trained.
    """

    steps: int = 3000
    batch: int = 12
    width: int = 96
    noise_channels: int = 8
    lr: float = 3e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    latent_noise: float = 0.1
    least_voiced_s: float = 10.0
    depth: float = 1.0
    noise_scale: float = 1.0
    save_every: int = 500
    report_every: int = 50
    seed: int = 0


@dataclass(frozen=True)
class MelodyReport:
    """`energy` is the mean over the steps since the last report. `explained`, in the last one only: the share of the
    variance of pitch that the network explains without noise, in utterances kept from training; None without any."""

    step: int
    seconds: float
    energy: float
    explained: float | None = None


def train_contour(
    corpus: Path,
    latents: Path,
    training: MelodyTraining,
    out: Path,
    *,
    frame_rate: float,
    weights: Mapping[str, float] | None = None,
    report: Callable[[MelodyReport], None] | None = None,
) -> ContourNet:
    """Train on a corpus of recordings at locked pitch and its `latents` (.npy), and write `melody.safetensors` to
    `out` every `save_every` steps. `weights`: by speaker, how likely an utterance is drawn, relative to 1.

    `<out>.run` holds what is needed to go on, until the end: a run that finds it ends bit for bit as it would have
    without the interruption (same machine and threads). Raises ModelError for a corpus without pitches or without
    speech enough, for weights of a speaker who is not in it, on a loss or gradient that is not finite, when the disk
    is full, and for a `.run` file of a run with other settings; what was saved last stays as it was.
    """
    data = Intonation.open(corpus, latents, training.least_voiced_s * frame_rate)
    require_speakers((item.speaker for item in read_items(corpus)), weights or {}, "weights")
    mean, std = normalisation(data.latents)
    torch.manual_seed(training.seed)
    net = ContourNet(len(mean), training.width, training.noise_channels).train()
    net.mean.copy_(mean)
    net.std.fill_(std)
    optimiser = torch.optim.AdamW(net.parameters(), betas=training.betas, weight_decay=training.weight_decay)
    run, settings = RunState(0, {"net": net, "optimiser": optimiser}), _settings(training, data, weights)
    resume = out.with_name(out.name + ".run")
    if resume.exists():
        run.restore(resume, settings)
    shares, warmup = data.shares(weights or {}), int(training.warmup_share * training.steps)
    began, window = time.monotonic(), list[float]()
    while run.step < training.steps:
        for group in optimiser.param_groups:
            group["lr"] = linear_schedule(run.step, steps=training.steps, warmup=warmup, peak=training.lr)
        rng = step_randomness(training.seed, run.step)
        chosen = [data.train[index] for index in rng.choice(len(shares), training.batch, p=shares)]
        loss = _loss(net, data, chosen, training.latent_noise)
        energy = float(loss.detach())
        if not math.isfinite(energy):
            raise ModelError(f"the energy of melodies is {energy} at step {run.step}; lower melody.lr")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = nn.utils.clip_grad_norm_(net.parameters(), training.clip)
        if not bool(torch.isfinite(gradient)):
            raise ModelError(f"the gradient of melodies is not finite at step {run.step}; lower melody.lr")
        optimiser.step()
        run.step += 1
        window.append(energy)
        if run.step == training.steps:
            break
        if report is not None and run.step % training.report_every == 0:
            report(MelodyReport(run.step, time.monotonic() - began, float(np.mean(window))))
            window = []
        if run.step % training.save_every == 0:
            save_contour(net, out)
            run.save(resume, settings)
    net.eval().requires_grad_(False)
    save_contour(net, out)
    if report is not None:
        explained = explained_variance(net, data, data.held_out)
        report(MelodyReport(run.step, time.monotonic() - began, float(np.mean(window)), explained))
    resume.unlink(missing_ok=True)
    return net


@torch.inference_mode()
def explained_variance(net: ContourNet, data: Intonation, items: Sequence[CorpusItem]) -> float | None:
    """The share of the variance of pitch that the network explains without noise; None where nothing varies."""
    told, want = [], []
    for item in items:
        batch = data.batch([item])
        voiced = batch.voiced > 0
        told.append(net(batch.latents, torch.zeros(1, net.noise_channels))[voiced])
        want.append(batch.pitch[voiced])
    if not items or not float(variance := torch.cat(want).var(correction=0)):
        return None
    return 1.0 - float((torch.cat(told) - torch.cat(want)).square().mean() / variance)


def contour_distance(off: Tensor, voiced: Tensor) -> Tensor:
    """How far two contours `[B, S]` are apart, by their difference: its root mean square over windows of voiced frames,
    and that of its movement; averaged over the windows, summed over their lengths."""
    parts = [_rms(off.square() * voiced, voiced, size, max(1, size // 4)) for size in _WINDOWS]
    if off.shape[1] > _MOVEMENT:
        both = voiced[:, _MOVEMENT:] * voiced[:, :-_MOVEMENT]
        moved = (off[:, _MOVEMENT:] - off[:, :-_MOVEMENT]).square() * both
        parts.append(_rms(moved, both, _MOVEMENT_WINDOW, _MOVEMENT_WINDOW // 2))
    return torch.stack(parts).sum()


def save_contour(net: ContourNet, path: Path) -> None:
    """`write_melody` to a file of any name, atomically. Raises ModelError when that fails."""

    def write(partial: Path) -> None:
        with TemporaryDirectory(dir=partial.parent) as folder:
            write_melody(net, Path(folder))
            (Path(folder) / FILE).replace(partial)

    write_atomically(path, write)


def _loss(net: ContourNet, data: Intonation, items: Sequence[CorpusItem], latent_noise: float) -> Tensor:
    """The energy score of two contours of each utterance."""
    batch = data.batch(items)
    read = batch.latents + latent_noise * net.std * torch.randn_like(batch.latents)
    one, other = (net(read, noise) for noise in torch.randn(2, len(items), net.noise_channels))
    apart = contour_distance(one - other, batch.voiced)
    off = contour_distance(one - batch.pitch, batch.voiced) + contour_distance(other - batch.pitch, batch.voiced)
    return 0.5 * (off - apart)


def _rms(square: Tensor, voiced: Tensor, size: int, stride: int) -> Tensor:
    size = min(size, square.shape[1])
    held = F.avg_pool1d(voiced[:, None], size, stride) > 0
    # Not zero, where a root has no gradient.
    root = (F.avg_pool1d(square[:, None], size, stride) + 1e-5).sqrt()
    return (root * held).sum() / (held.sum() + 1)


def _settings(training: MelodyTraining, data: Intonation, weights: Mapping[str, float] | None) -> dict[str, Any]:
    """What must be the same for a run to go on as it began."""
    plain = asdict(training)
    for name in ("save_every", "report_every", "depth", "noise_scale"):
        del plain[name]
    about = {"corpus": data.describe(), "weights": repr(sorted(weights.items())) if weights else None}
    return {name: repr(value) for name, value in plain.items()} | about
