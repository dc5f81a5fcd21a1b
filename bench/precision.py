"""What fewer bits a weight cost: latents against those of fp32 with the same noise, and how well speech is understood.

The voice speaks sentences it was not trained on, once for each precision, and is judged as
`sled_tts.model.evaluation.voice` judges it. Needs the `eval` extra.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sled_tts.bench.common import finish, introduce, machine, show
from sled_tts.model.checkpoint import ModelBundle, load_bundle
from sled_tts.model.evaluation.recognition import ClosedSet, Wave, arctic_prompts, score
from sled_tts.model.evaluation.signal import inspect
from sled_tts.model.evaluation.voice import held_out, speak
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.quantization import Precision, available

# Each frame feeds the next: beyond this many, speech is as different as with another seed.
_FRAMES = 20


def latents(bundle: ModelBundle, texts: list[str], seed: int, cfg_scale: float) -> Tensor:
    """The first frames of every text, `[B, _FRAMES, D]`, stops not obeyed."""
    config = bundle.config
    requests = [
        GenerationRequest(
            bundle.tokenizer.encode(text), seeded_noise(seed + k, config.generator.noise_channels), _FRAMES
        )
        for k, text in enumerate(texts)
    ]
    made = generate(bundle.sled, requests, cfg_scale=cfg_scale, n=config.stream_n, m=config.stream_m, ignore_stop=True)
    return torch.stack([one.latents for one in made])


def apart(exact: Tensor, rough: Tensor) -> float:
    """Root of mean squares of the difference, over that of the exact latents."""
    return float((exact - rough).norm() / exact.norm())


def compare(model: str, count: int = 42, candidates: int = 300, seed: int = 0, cfg_scale: float = 2.0) -> None:
    """Judge a voice in every precision this processor has; prints a table and JSON."""
    about = machine() | {"model": model, "seed": seed, "cfg_scale": cfg_scale, "candidates": candidates}
    introduce(about)
    closed = ClosedSet.of(held_out(None, count), arctic_prompts(), candidates)
    texts = [text for text in held_out(None, count) if text in closed.candidates]
    bundles = {p: load_bundle(model, precision=p) for p in Precision if available(p)}
    exact = latents(bundles[Precision.FP32], texts, seed, cfg_scale)
    results = []
    for precision, bundle in bundles.items():
        rough = latents(bundle, texts, seed, cfg_scale)
        results.append({"precision": str(precision)} | _judge(bundle, texts, closed, seed, cfg_scale))
        results[-1] |= {"first_frame": apart(exact[:, 0], rough[:, 0]), "frames": apart(exact, rough)}
    show(
        f"{len(texts)} held-out sentences, {len(closed.candidates)} candidates",
        ("precision", "latents, frame 1", f"latents, {_FRAMES} frames", "closed set", "open WER", "not finished"),
        [
            (
                r["precision"], f"{r['first_frame']:.4f}", f"{r['frames']:.4f}", f"{r['synthesis']['accuracy']:.1%}",
                f"{r['synthesis']['wer']:.1%}", str(r["not_finished"]),
            )
            for r in results
        ],
    )  # fmt: skip
    finish(about | {"sentences": len(texts)}, results)


def _judge(bundle: ModelBundle, texts: list[str], closed: ClosedSet, seed: int, cfg_scale: float) -> dict[str, Any]:
    rate = bundle.codec.config.sampling_rate
    spoken = speak(bundle, texts, seed=seed, cfg_scale=cfg_scale)
    waves: list[tuple[str, Wave, int]] = [(text, wave, rate) for text, (wave, _) in zip(texts, spoken, strict=True)]
    reports = [inspect(wave, rate) for _, wave, _ in waves]
    signal = {n: float(np.mean([getattr(r, n) for r in reports])) for n in reports[0].__dataclass_fields__}
    return {
        "synthesis": asdict(score(waves, closed)),
        "not_finished": sum(reason != "stop" for _, reason in spoken),
        "signal": signal,
    }
