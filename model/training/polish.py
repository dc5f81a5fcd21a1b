"""Adversarial training of a codec's decoder under fixed latents.

Waveform and mel losses alone make noise-like sounds (fricatives, breath) dull, for their best guess of noise is
silence. Encoder and codebooks stay, so a SLED network trained on the latents stays valid.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.training.averaging import MovingAverage
from sled_tts.model.training.balancer import Balancer
from sled_tts.model.training.data.shards import file_sha256
from sled_tts.model.training.discriminator import (
    Judgement,
    MultiScaleStftDiscriminator,
    discriminator_loss,
    feature_loss,
    generator_loss,
)
from sled_tts.model.training.resume import Resumable, RunState, save_codec, step_randomness
from sled_tts.model.training.speakers import Spans
from sled_tts.model.training.spectral import MelLoss, waveform_loss
from sled_tts.model.training.synthetic import read_audio, read_items


@dataclass(frozen=True)
class Polish:
    """Hyper-parameters. Weights of losses are shares of the gradient (see `Balancer`); `noise` is added to the latents.
    `aligned_share`: how many spans read the network's samples where there are some (see `aligned.py`). `average`: decay
    of a moving average of the decoder's weights, which is then what is kept.
    `residual_layers`: how many the decoder gets before training where it has fewer (see `growth.py`). `weights`: by
    speaker, how likely a span is from there, relative to 1 for those without."""

    steps: int = 4000
    batch: int = 8
    seconds: float = 0.64
    lr: float = 3e-4
    discriminator_lr: float = 3e-4
    windows: tuple[int, ...] = (1024, 512, 256)
    filters: int = 16
    waveform_weight: float = 0.5
    mel_weight: float = 1.0
    adversarial_weight: float = 2.0
    feature_weight: float = 2.0
    noise: float = 0.2
    aligned_share: float = 0.7
    average: float = 0.0
    critic_every: int = 2
    residual_layers: int | None = None
    warmup: int = 100
    save_every: int = 500
    report_every: int = 50
    seed: int = 0
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        return {
            "waveform": self.waveform_weight,
            "mel": self.mel_weight,
            "adversarial": self.adversarial_weight,
            "feature": self.feature_weight,
        }


@dataclass(frozen=True)
class PolishReport:
    """Means over the steps since the last report."""

    step: int
    seconds: float
    mel: float
    feature: float
    discriminator: float


def polish_decoder(
    corpus: Path,
    codec: Codec,
    training: Polish,
    out: Path,
    *,
    aligned: Path | None = None,
    report: Callable[[PolishReport], None] | None = None,
) -> Codec:
    """Train `codec.decoder` in place on `corpus`, and on what `write_aligned_samples` made of it (`aligned`).

    Saves to `out` every `save_every` steps, and to `<out>.run` what is needed to go on, until the end: a run that finds
    it ends bit for bit as it would have without the interruption.

    Raises ModelError on a loss that is not finite, when the disk is full, for a `.run` file of a run with other
    settings, and for weights of a speaker who is not in the corpus; what was saved last stays as it was.
    """
    torch.manual_seed(training.seed)
    audio, hop = read_audio(corpus), codec.config.hop_length
    frames = int(training.seconds * codec.config.sampling_rate) // hop
    spans = None
    if training.weights:
        spans = Spans.of(read_items(corpus), training.weights, len(audio) // hop, frames)
    mel, judge = MelLoss(codec.config.sampling_rate), MultiScaleStftDiscriminator(training.windows, training.filters)
    codec.eval().requires_grad_(False)
    decoder, average = codec.decoder.train().requires_grad_(True), None
    if training.average:
        average = MovingAverage(decoder, training.average)
        codec.decoder = average.model
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=training.lr, betas=(0.8, 0.99), weight_decay=0.0)
    critic = torch.optim.AdamW(judge.parameters(), lr=training.discriminator_lr, betas=(0.8, 0.99), weight_decay=0.0)
    balancer = Balancer(training.shares)
    # The whole codec, for what is read back from its folder is not to the last bit what was written there.
    parts: dict[str, Resumable] = {
        "codec": codec,
        "judge": judge,
        "optimiser": optimiser,
        "critic": critic,
        "balancer": balancer,
    }
    # With an average, the codec holds that and not what is trained.
    run = RunState(0, parts if average is None else parts | {"decoder": decoder})
    samples = None if aligned is None else np.load(aligned, mmap_mode="r")
    settings = _settings(training, codec, len(audio), aligned)
    resume = out.with_name(out.name + ".run")
    if resume.exists():
        run.restore(resume, settings)
    # Discriminators are initialised for inputs of unit variance.
    level = 1.0 / float((np.asarray(audio[: 60 * codec.config.sampling_rate], dtype=np.float32) / 32768).std())
    began, judged, window = time.monotonic(), 0.0, list[tuple[float, float, float]]()
    while run.step < training.steps:
        step, rng = run.step, step_randomness(training.seed, run.step)
        # Before the critic has learnt anything its gradient is noise.
        trained = step >= training.warmup
        scale = max(0.05, 1 - step / training.steps)
        for group in optimiser.param_groups:
            group["lr"] = training.lr * scale if trained else 0.0
        if spans is None:
            first = rng.integers(0, len(audio) // hop - frames, training.batch) * hop
        else:
            first = spans.draw(training.batch, rng) * hop
        want = torch.from_numpy(np.stack([audio[a : a + frames * hop] for a in first]).astype(np.float32) / 32768)
        replaced = np.zeros(len(first), dtype=bool)
        if samples is not None:
            replaced = rng.random(len(first)) < training.aligned_share
        latents = training.noise * torch.rand(len(want), 1, 1) * torch.randn(len(want), codec.config.dimension, frames)
        if not replaced.all():
            with torch.no_grad():
                latents[~replaced] += codec.encoder(want[~replaced, None])
        for row in np.flatnonzero(replaced):
            assert samples is not None
            span = samples[first[row] // hop : first[row] // hop + frames]
            latents[row] = torch.from_numpy(span.astype(np.float32)).T
        got = decoder(latents)[:, 0]
        if step % training.critic_every == 0 or not trained:
            critic_loss = discriminator_loss(_judge(judge, want * level), _judge(judge, got.detach() * level))
            judged = float(critic_loss.detach())
            _check([judged], step)
            _update(critic, judge, critic_loss)
        if trained:
            with torch.no_grad():
                real = _judge(judge, want * level)
            fake = _judge(judge, got * level)
            losses = {
                "waveform": waveform_loss(got, want),
                "mel": mel(got, want),
                "adversarial": generator_loss(fake),
                "feature": feature_loss(real, fake),
            }
            figures = [float(losses[name].detach()) for name in ("mel", "feature")] + [judged]
            _check([float(loss.detach()) for loss in losses.values()], step)
            optimiser.zero_grad(set_to_none=True)
            got.backward(balancer.gradient(losses, got))
            nn.utils.clip_grad_norm_(decoder.parameters(), 10.0)
            optimiser.step()
            if average is not None:
                average.update(decoder, step + 1 - training.warmup)
            window.append((figures[0], figures[1], figures[2]))
        due = (step + 1) % training.report_every == 0 or step + 1 == training.steps
        if report is not None and window and due:
            report(PolishReport(step + 1, time.monotonic() - began, *np.mean(window, axis=0).tolist()))
            window = []
        run.step += 1
        if run.step % training.save_every == 0 or run.step == training.steps:
            run.save(resume, settings)
            save_codec(codec, out)
    resume.unlink(missing_ok=True)
    codec.eval().requires_grad_(False)
    return codec


def _settings(training: Polish, codec: Codec, samples: int, aligned: Path | None) -> dict[str, Any]:
    """What must be the same for a run to go on as it began; the decoder is not, for it is what changes."""
    fixed = torch.cat([p.detach().flatten() for p in codec.encoder.parameters()])
    plain = asdict(training)
    del plain["save_every"], plain["report_every"]
    weights = sorted(plain.pop("weights").items())
    return {name: repr(value) for name, value in plain.items()} | {
        "config": repr(codec.config), "encoder": f"{float(fixed.square().sum()):.4g}", "corpus": f"{samples} samples",
        "aligned": None if aligned is None else file_sha256(aligned), "weights": repr(weights) if weights else None,
    }  # fmt: skip


def _check(figures: list[float], step: int) -> None:
    if not np.isfinite(figures).all():
        raise ModelError(f"losses are {figures} at step {step}; lower the learning rates")


def _judge(judge: MultiScaleStftDiscriminator, wave: Tensor) -> list[Judgement]:
    with torch.autocast(wave.device.type, torch.bfloat16):
        judgements: list[Judgement] = judge(wave)
    return judgements


def _update(optimiser: torch.optim.Optimizer, module: nn.Module, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), 10.0)
    optimiser.step()
