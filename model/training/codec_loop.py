"""Training a small codec of the Encodec architecture on a frame-aligned corpus.

Latents get Gaussian noise in training: it makes their scale meaningful (a dimension that must survive
noise has to be large) and the decoder tolerant of a network's small errors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.codec.networks import init_for_training
from sled_tts.model.errors import ModelError
from sled_tts.model.training.resume import RunState, save_codec, step_randomness
from sled_tts.model.training.spectral import MelLoss, waveform_loss
from sled_tts.model.training.synthetic import read_audio
from sled_tts.model.training.vq import EmaCodebooks


@dataclass(frozen=True)
class CodecTraining:
    """Hyper-parameters. `spectral_from`: first the waveform alone, since its gradient is usable from the
    first step; then mel terms and noise ramp up over 400 steps. `quantize`: the decoder reads RVQ output with EMA
    codebooks from then on (Encodec's own way); otherwise the codebooks are fitted at the end."""

    steps: int = 6000
    batch: int = 8
    seconds: float = 0.64
    lr: float = 1.2e-3
    waveform_weight: float = 1.0
    mel_weight: float = 1.0
    envelope_weight: float = 1.0
    latent_penalty: float = 0.01
    noise: float = 0.25
    spectral_from: int = 500
    freeze_encoder: bool = False
    quantize: bool = False
    commitment_weight: float = 0.25
    rvq_latents: int = 20_000
    save_every: int = 200
    report_every: int = 50
    seed: int = 0


@dataclass(frozen=True)
class CodecReport:
    """One step; `snr` in dB."""

    step: int
    seconds: float
    loss: float
    snr: float


class _Envelope(nn.Module):
    """Latents must hold the spectral envelope linearly: without this they spend their width on the phase of
    the loudest kilohertz."""

    def __init__(self, config: CodecConfig, bands: int = 40) -> None:
        super().__init__()
        self.bands, self.half_hop = bands, config.hop_length // 2
        self.mel = MelLoss(config.sampling_rate, ((512, bands),))
        self.head = nn.Conv1d(config.dimension, 2 * bands, 1)

    def forward(self, latents: Tensor, wave: Tensor) -> Tensor:
        """`latents [B, D, S]`, `wave [B, S * hop]`."""
        power = self.mel.power(wave, 512, self.half_hop)[..., :-1]
        level = (power + 1e-5).log10() + 2.5
        batch, frames = latents.shape[0], latents.shape[2]
        target = level.view(batch, self.bands, frames, 2).permute(0, 1, 3, 2).reshape(batch, -1, frames)
        error: Tensor = (self.head(latents) - target).abs().mean()
        return error


def train_codec(
    corpus: Path,
    config: CodecConfig,
    training: CodecTraining,
    out: Path,
    *,
    start: Codec | None = None,
    report: Callable[[CodecReport], None] | None = None,
) -> Codec:
    """Train on `corpus` (see `synthetic`), fit the RVQ, save to `out`, and return the codec.

    Continues from `start` when given. Every `save_every` steps `<out>.run` gets what is needed to go on: a run that
    finds it goes on from there and ends bit for bit as it would have without the interruption (same machine and
    threads). It is removed when the codec is saved. Raises ModelError on a loss that is not finite, when the disk is
    full, and for a `.run` file of a run with other settings; what was saved last stays as it was.
    """
    audio, hop = read_audio(corpus), config.hop_length
    frames = int(training.seconds * config.sampling_rate) // hop
    if len(audio) // hop <= frames:
        raise ModelError(f"{corpus} holds {len(audio)} samples, training needs more than {frames * hop}")
    torch.manual_seed(training.seed)
    codec = Codec(config) if start is None else start
    if start is None:
        init_for_training(codec.encoder)
        init_for_training(codec.decoder)
    codec.train().requires_grad_(True)
    codec.encoder.requires_grad_(not training.freeze_encoder)
    envelope, mel = _Envelope(config), MelLoss(config.sampling_rate)
    # Losses are scaled for a level of 0.1; quiet corpora are lifted inside the first and last layer.
    loudness = float((np.asarray(audio[: 60 * config.sampling_rate], dtype=np.float32) / 32768).std())
    level, gain = 0.1 / loudness, 1.0 if start is not None else 0.1 / loudness
    trained = [p for p in [*codec.parameters(), *envelope.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=training.lr, betas=(0.8, 0.99), weight_decay=0.0)
    codebooks = EmaCodebooks(codec.quantizer, seed=training.seed)
    run = RunState(0, {"codec": codec, "envelope": envelope, "optimiser": optimiser, "codebooks": codebooks})
    settings = _settings(training, config, len(audio), continued=start is not None)
    resume = out.with_name(out.name + ".run")
    if resume.exists():
        run.restore(resume, settings)
    began = time.monotonic()
    while run.step < training.steps:
        rng = step_randomness(training.seed, run.step)
        ramp = 1.0 if start is not None else min(1.0, max(0.0, (run.step - training.spectral_from) / 400))
        for group in optimiser.param_groups:
            decay = 0.1 + 0.45 * (1 + math.cos(math.pi * run.step / training.steps))
            group["lr"] = training.lr * min(1.0, (run.step + 1) / 30) * decay
        first = rng.integers(0, len(audio) // hop - frames, training.batch) * hop
        wave = torch.from_numpy(np.stack([audio[a : a + frames * hop] for a in first]).astype(np.float32) / 32768)
        latents = codec.encoder(wave[:, None] * gain)
        read, commitment = latents, torch.zeros(())
        if training.quantize and ramp > 0:
            quantised, commitment = codebooks(latents.transpose(1, 2))
            read = quantised.transpose(1, 2)
        noisy = read + training.noise * ramp * torch.randn_like(latents)
        got, want = codec.decoder(noisy)[:, 0] / gain * level, wave * level
        loss = training.waveform_weight * waveform_loss(got, want)
        loss = loss + ramp * training.latent_penalty * latents.square().mean()
        loss = loss + training.commitment_weight * commitment
        if ramp > 0:
            loss = loss + training.mel_weight * ramp * mel(got, want)
        if not training.freeze_encoder:
            loss = loss + training.envelope_weight * ramp * envelope(noisy, want)
        if not bool(torch.isfinite(loss)):
            raise ModelError(f"codec loss is {float(loss.detach())} at step {run.step}; lower the lr")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        gradient = nn.utils.clip_grad_norm_(trained, 10.0)
        if not bool(torch.isfinite(gradient)):
            raise ModelError(f"the codec's gradient is not finite at step {run.step}; lower the lr")
        optimiser.step()
        run.step += 1
        if report is not None and (run.step % training.report_every == 0 or run.step == training.steps):
            error = float((got - want).detach().square().mean() / want.square().mean())
            snr = -10 * math.log10(max(error, 1e-12))
            report(CodecReport(run.step, time.monotonic() - began, float(loss.detach()), snr))
        if run.step % training.save_every == 0 or run.step == training.steps:
            run.save(resume, settings)
    _fold_gain(codec, gain)
    codec.eval().requires_grad_(False)
    if not training.quantize:
        _fit_quantizer(codec, audio, training)
    save_codec(codec, out)
    resume.unlink(missing_ok=True)
    return codec


def _settings(training: CodecTraining, config: CodecConfig, samples: int, *, continued: bool) -> dict[str, Any]:
    """What must be the same for a run to go on as it began."""
    plain = asdict(training)
    del plain["save_every"], plain["report_every"]
    return {name: repr(value) for name, value in plain.items()} | {
        "config": repr(config), "corpus": f"{samples} samples", "continued": continued
    }  # fmt: skip


@torch.no_grad()
def _fold_gain(codec: Codec, gain: float) -> None:
    """Move the level change into the first and last convolution."""
    convolutions = [m for m in codec.encoder.modules() if isinstance(m, nn.Conv1d)]
    convolutions[0].weight.mul_(gain)
    last = [m for m in codec.decoder.modules() if isinstance(m, nn.Conv1d)][-1]
    last.weight.div_(gain)
    if last.bias is not None:
        last.bias.div_(gain)


@torch.inference_mode()
def _fit_quantizer(codec: Codec, audio: np.ndarray, training: CodecTraining) -> None:
    """Fit the residual codebooks to latents of the corpus."""
    span = min(len(audio), 10 * codec.config.sampling_rate) // codec.config.hop_length * codec.config.hop_length
    parts: list[Tensor] = []
    for first in range(0, len(audio) - span + 1, span):
        wave = torch.from_numpy(np.asarray(audio[first : first + span], dtype=np.float32) / 32768)
        parts.append(codec.encoder(wave[None, None])[0].transpose(0, 1))
        if sum(len(part) for part in parts) >= training.rvq_latents:
            break
    codec.quantizer.fit(torch.cat(parts), seed=training.seed)
