"""Arms of a training experiment: the same network, data and seed, one setting changed.

The ablations of the paper (energy distance against RMSE, amount of data) are comparisons of such arms. A working
folder is what `sled-tts train` leaves: `corpus/`, `latents.npy`, `tokenizer/`, `codec/`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from sled_tts.model.checkpoint import ModelBundle, ModelExtras, load_bundle, load_sled_state, resolve
from sled_tts.model.codec.codec import Codec
from sled_tts.model.config import GeneratorConfig, SledConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import Tokenizer
from sled_tts.model.training.batches import Corpus
from sled_tts.model.training.loop import SledTraining, StepReport, train_sled
from sled_tts.model.training.pairing import Pairing


@dataclass(frozen=True)
class Selection:
    """Which utterances of a corpus an arm sees: of `speaker` (None: all), at most `longest` frames each, the first
    `hours` of them (None: all)."""

    speaker: str | None = None
    longest: int | None = None
    hours: float | None = None

    def __str__(self) -> str:
        parts = [
            self.speaker or "every speaker",
            "" if self.longest is None else f"up to {self.longest} frames",
            "" if self.hours is None else f"{self.hours:g} h",
        ]
        return " ".join(part for part in parts if part)

    def of(self, corpus: Corpus, frame_rate: float) -> Corpus:
        """Raises ModelError when nothing, or less than `hours`, is left."""
        chosen, frames = [], 0
        most = float("inf") if self.hours is None else self.hours * 3600 * frame_rate
        for item in corpus.items:
            if self.speaker is not None and item.speaker != self.speaker:
                continue
            if self.longest is not None and item.frames > self.longest:
                continue
            if frames >= most:
                break
            chosen.append(item)
            frames += item.frames
        if not chosen or (self.hours is not None and frames < most):
            raise ModelError(f"the corpus has {frames / 3600 / frame_rate:.2f} h of {self}", param="hours")
        return replace(corpus, items=chosen)


@dataclass(frozen=True)
class Arm:
    """One training. `start`: a checkpoint to go on from, None for a fresh network of `shape`."""

    name: str
    training: SledTraining
    selection: Selection = Selection()
    shape: SledConfig | None = None
    start: str | None = None


def small_shape(vocab_size: int, latent_dim: int) -> SledConfig:
    """0.9 M parameters: some hundred steps take a minute or two on one core."""
    return SledConfig(
        hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=2, vocab_size=vocab_size,
        latent_dim=latent_dim, generator=GeneratorConfig(depth=2, width=128, noise_channels=64),
        max_position_embeddings=1024, training_cfg=0.1, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        stream_n=8, stream_m=14,
    )  # fmt: skip


def small_training(
    steps: int, *, repulsion: bool = True, prompts: float = 0.0, lr: float = 1.2e-3, positions: int = 2400
) -> SledTraining:
    """The small recipe with or without the repulsive term."""
    base = SledTraining(
        steps=steps, positions=positions, lr=lr, warmup=min(100, steps // 4), prompts=Pairing(prompts, 150)
    )
    return replace(base, objective=replace(base.objective, repulsion=repulsion), save_every=100, report_every=25)


def run_arm(arm: Arm, work: Path, out: Path) -> ModelBundle:
    """Train `arm` in `out` (a killed run goes on), and return it ready to speak. Its curve is in `curve.jsonl`.

    Raises ModelError, CheckpointError or ConfigError.
    """
    codec = Codec.load(work / "codec")
    tokenizer = Tokenizer.load(work / "tokenizer")
    begun = None if arm.start is None else load_bundle(arm.start)
    fresh = arm.shape or small_shape(tokenizer.vocab_size, codec.config.dimension)
    config = fresh if begun is None else begun.config
    corpus = Corpus.open(work / "corpus", work / "latents.npy", tokenizer, config.stream_n, config.stream_m)
    if begun is not None:
        extras = begun.extras
    else:
        extras = ModelExtras(
            arm.name, corpus.mean, torch.full((config.latent_dim,), corpus.std),
            max_segment_chars=80, max_frames_per_token=10.0,
        )  # fmt: skip
    data = arm.selection.of(normalised_as(corpus, extras), codec.config.frame_rate)
    out.mkdir(parents=True, exist_ok=True)
    start = None
    if arm.start is not None:
        start = Sled(config)
        load_sled_state(start, load_file(resolve(arm.start) / "model.safetensors"))
    with (out / "curve.jsonl").open("a", encoding="utf-8") as curve:

        def report(step: StepReport) -> None:
            curve.write(json.dumps(asdict(step)) + "\n")
            curve.flush()

        sled = train_sled(data, config, arm.training, out / "sled.safetensors", report=report, start=start)
    return ModelBundle(arm.name, config, sled.prepare_for_inference(), tokenizer, codec, extras)


def normalised_as(corpus: Corpus, extras: ModelExtras) -> Corpus:
    """The corpus as a checkpoint sees latents."""
    return replace(corpus, mean=extras.latent_mean, std=float(extras.latent_std[0]))


def read_curve(out: Path) -> list[StepReport]:
    """The curve of an arm; of a step reported twice (killed and resumed), the later one."""
    lines = (out / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    steps = {data["step"]: StepReport(**data) for data in map(json.loads, lines)}
    return [steps[step] for step in sorted(steps)]
