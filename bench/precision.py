"""What fewer bits a weight cost: latents against those of fp32 with the same noise, and what is heard of a voice.

Latents come from the engine's runner, speech from the server's own way from text to samples, once for each precision.
A checkpoint is judged by recogniser and, with the `quality` extra, by speaker similarity; random weights of the
published shape (`--model published`) by their latents alone. Needs the `eval` extra for speech.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sled_tts.bench.common import finish, introduce, machine, show
from sled_tts.bench.speakers import Speakers
from sled_tts.bench.step import PUBLISHED, make_runner
from sled_tts.model.checkpoint import load_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.judges import SPEAKER_JUDGES, SpeakerJudge, choose
from sled_tts.model.evaluation.recognition import ClosedSet, Wave, arctic_prompts, score
from sled_tts.model.evaluation.voice import held_out
from sled_tts.model.native.library import describe
from sled_tts.model.quantization import Precision, available
from sled_tts.model.speaking import sound_of
from sled_tts.server.engine.request import AudioChunk, Failed, Finished
from sled_tts.server.service import UtteranceOptions
from sled_tts.server.wiring import LocalSpeechService, load_service

# Each frame feeds the next: beyond this many, speech is as different as with another seed.
_FRAMES = 20
_TOKENS = 24
_TEXTS = 16


def latents(model: str, precision: Precision, seed: int, cfg_scale: float) -> Tensor:
    """The first frames of some random texts, `[_TEXTS, _FRAMES, D]`, stops not obeyed."""
    runner = make_runner(model, precision, _TEXTS, _TOKENS + 2 * _FRAMES + 8, seed)
    rng = torch.Generator().manual_seed(seed)
    vocabulary = runner.info.vocab_size
    texts = [[0, *torch.randint(4, vocabulary, (_TOKENS - 2,), generator=rng).tolist(), 2] for _ in range(_TEXTS)]
    seeds = [seed + k for k in range(_TEXTS)]
    speakers = Speakers(runner, texts, seeds, streaming=runner.info.n is not None, cfg_scale=cfg_scale)
    for _ in range(_FRAMES):
        speakers.step()
    return torch.stack([speakers.latents(slot, _FRAMES) for slot in range(_TEXTS)])


def apart(exact: Tensor, rough: Tensor) -> float:
    """Root of mean squares of the difference, over that of the exact latents."""
    return float((exact - rough).norm() / exact.norm())


async def _say(service: LocalSpeechService, text: str, seed: int, cfg_scale: float) -> tuple[Wave, str]:
    utterance = service.open_stream(UtteranceOptions(seed=seed, cfg_scale=cfg_scale))
    utterance.append(text)
    utterance.close()
    chunks, reason = list[Wave](), ""
    async for event in utterance:
        if isinstance(event, AudioChunk):
            chunks.append(event.pcm)
        elif isinstance(event, Failed):
            raise event.error
        elif isinstance(event, Finished):
            reason = str(event.reason)
    return np.concatenate(chunks), reason


def speech(
    model: str, precision: Precision, texts: Sequence[str], seed: int, cfg_scale: float
) -> list[tuple[Wave, str]]:
    """Samples and finish reason of every text, each with a seed of its own, in the default voice."""

    async def everything(service: LocalSpeechService) -> list[tuple[Wave, str]]:
        return [await _say(service, text, seed + k, cfg_scale) for k, text in enumerate(texts)]

    service = load_service([model], slots=1, threads=torch.get_num_threads(), device="cpu", precision=precision)
    try:
        return asyncio.run(everything(service))
    finally:
        service.close()


def compare(
    model: str,
    count: int = 42,
    candidates: int = 300,
    seed: int = 0,
    cfg_scale: float = 2.0,
    threads: int | None = None,
    only: Sequence[Precision] = (),
) -> None:
    """Judge a model in every precision this processor has, or `only` in some; prints a table and JSON."""
    torch.set_num_threads(threads or torch.get_num_threads())
    about = machine() | {"model": model, "seed": seed, "cfg_scale": cfg_scale, "steps": describe()}
    introduce(about)
    precisions = [p for p in Precision if available(p) and (p in only or not only)]
    results: list[dict[str, Any]] = [{"precision": str(p)} for p in precisions]
    exact = latents(model, Precision.FP32, seed, cfg_scale)
    for precision, result in zip(precisions, results, strict=True):
        rough = exact if precision is Precision.FP32 else latents(model, precision, seed, cfg_scale)
        result |= {"first_frame": apart(exact[:, 0], rough[:, 0]), "frames": apart(exact, rough)}
    if model != PUBLISHED:
        closed = ClosedSet.of(held_out(None, count), arctic_prompts(), candidates)
        texts = [text for text in held_out(None, count) if text in closed.candidates]
        about |= {"sentences": len(texts), "candidates": len(closed.candidates)}
        _judge(model, precisions, results, texts, closed, seed, cfg_scale)
    columns = ("precision", "first_frame", "frames", "accuracy", "wer", "not_finished", "similarity", "to_fp32")
    show(
        f"{_TEXTS} random texts of {_FRAMES} frames; {about.get('sentences', 0)} sentences spoken",
        columns,
        [tuple(_cell(result.get(name)) for name in columns) for result in results],
    )
    finish(about, results)


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else str(value)


def _judge(
    model: str,
    precisions: Sequence[Precision],
    results: Sequence[dict[str, Any]],
    texts: Sequence[str],
    closed: ClosedSet,
    seed: int,
    cfg_scale: float,
) -> None:
    """Speak and judge; fills in `results`. `similarity` is to the voice's own prompt, `to_fp32` to the same sentence
    in fp32."""
    bundle = load_bundle(model)
    rate = bundle.codec.config.sampling_rate
    speakers, own = _speaker_judge(), bundle.voice()
    exact = speech(model, Precision.FP32, texts, seed, cfg_scale)
    reference = [speakers.embedding(wave, rate) for wave, _ in exact] if speakers is not None else []
    for precision, result in zip(precisions, results, strict=True):
        spoken = exact if precision is Precision.FP32 else speech(model, precision, texts, seed, cfg_scale)
        heard = score([(text, wave, rate) for text, (wave, _) in zip(texts, spoken, strict=True)], closed)
        result |= {"accuracy": heard.closed_set_accuracy, "wer": heard.open_wer, "recognition": asdict(heard)}
        result["not_finished"] = sum(reason != "stop" for _, reason in spoken)
        if speakers is None:
            continue
        embedded = [speakers.embedding(wave, rate) for wave, _ in spoken]
        result["to_fp32"] = float(np.mean([a @ b for a, b in zip(embedded, reference, strict=True)]))
        if own is not None:
            prompt = speakers.embedding(sound_of(bundle, own.latents, own.register, own.dynamics), rate)
            result["similarity"] = float(np.mean([one @ prompt for one in embedded]))


def _speaker_judge() -> SpeakerJudge | None:
    try:
        return choose(SPEAKER_JUDGES, "resemblyzer", "speaker")
    except (ModelError, ImportError) as error:
        print(f"no speaker similarity: {error}")
        return None
