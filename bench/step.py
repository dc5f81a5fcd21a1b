"""Milliseconds a step by batch and context, its share of what memory allows, and with `profile` where the time goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from sled_tts.bench.common import Spread, draw, finish, introduce, machine, show
from sled_tts.bench.roofline import Traffic, read_bandwidth
from sled_tts.bench.shapes import published, random_codec, random_sled
from sled_tts.bench.speakers import Speakers
from sled_tts.model.checkpoint import load_bundle
from sled_tts.model.native.library import describe
from sled_tts.model.quantization import Precision
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.state import NOISE_BLOCK

PUBLISHED = "published"


def make_runner(model: str, precision: Precision, slots: int, positions: int, seed: int) -> SledRunner:
    """A runner over random weights of the published shape, or over a checkpoint, original weights released."""
    if model == PUBLISHED:
        sled, codec = random_sled(published(), seed).prepare_for_inference(precision), random_codec()
        mean, std = torch.zeros(sled.config.latent_dim), torch.ones(sled.config.latent_dim)
    else:
        bundle = load_bundle(model, precision=precision)
        sled, codec = bundle.sled, bundle.codec
        mean, std = bundle.extras.latent_mean, bundle.extras.latent_std
    sled.release_weights()
    return SledRunner(sled, codec, mean, std, slots=slots, positions=positions)


def speakers_at(runner: SledRunner, batch: int, context: int, seed: int) -> Speakers:
    """`batch` guided streams that have read their text and remember `context` positions of noise."""
    n = runner.info.n or 5
    vocabulary = runner.info.vocab_size
    texts = [[0, *(4 + (7 * row + k) % (vocabulary - 4) for k in range(n - 2)), 2] for row in range(batch)]
    speakers = Speakers(runner, texts, [seed + row for row in range(batch)], streaming=runner.info.n is not None)
    speakers.step()
    cache = runner.state.cache
    for layer in (*cache.keys, *cache.values):
        layer[: 2 * batch, :, :context].normal_(generator=torch.Generator().manual_seed(seed))
    cache.lengths[: 2 * batch] = [context] * (2 * batch)
    return speakers


def time_steps(runner: SledRunner, speakers: Speakers, context: int, blocks: int) -> tuple[list[float], list[float]]:
    """Wall and processor milliseconds a step, each the mean of `NOISE_BLOCK` steps from `context` on."""
    wall, cpu = [], []
    rows = 2 * len(speakers.texts)
    for turn in range(blocks + 1):
        runner.state.cache.lengths[:rows] = [context] * rows
        runner.state.filled[: rows // 2] = [1] * (rows // 2)
        began = time.perf_counter(), time.process_time()
        for _ in range(NOISE_BLOCK):
            speakers.step()
        if turn:
            wall.append(1000 * (time.perf_counter() - began[0]) / NOISE_BLOCK)
            cpu.append(1000 * (time.process_time() - began[1]) / NOISE_BLOCK)
    return wall, cpu


def measure(
    model: str = PUBLISHED,
    precision: Precision = Precision.FP32,
    batches: Sequence[int] = (1, 2, 4, 8, 16),
    contexts: Sequence[int] = (64, 256, 768),
    blocks: int = 5,
    threads: int | None = None,
    seed: int = 0,
    plot: Path | None = None,
    profiled: bool = False,
) -> None:
    """Time every batch with every context, print a table and JSON; `plot` draws RTF over batch."""
    torch.set_num_threads(threads or torch.get_num_threads())
    runner = make_runner(model, precision, max(batches), max(contexts) + NOISE_BLOCK + 2, seed)
    config, frame_rate = runner.sled.config, runner.info.frame_rate
    about = machine() | {"model": model, "precision": str(precision), "seed": seed, "frame_rate": frame_rate}
    about["steps"] = describe()
    introduce(about)
    results = []
    for batch in batches:
        for context in contexts:
            speakers = speakers_at(runner, batch, context, seed)
            wall, cpu = time_steps(runner, speakers, context, blocks)
            bandwidth = read_bandwidth(256, 2)
            item = runner.state.cache.keys[0].element_size()
            floor = 1000 * Traffic.of(config, precision, 2 * batch, context, item, batch).total / bandwidth
            results.append(_row(batch, context, Spread.of(wall), Spread.of(cpu), floor, bandwidth, frame_rate))
    show(
        "milliseconds a step (all streams, CFG, codec excluded); floor: what memory allows",
        ("streams", "context", "step", "best", "CPU", "floor", "share", "RTF", "GB/s"),
        [
            (
                str(r["batch"]), str(r["context"]), str(Spread(**r["wall"])), f"{r['wall']['best']:.2f}",
                f"{r['cpu']['median']:.2f}", f"{r['floor']:.2f}", f"{r['share']:.0%}", f"{r['rtf']:.3f}",
                f"{r['bandwidth'] / 1e9:.1f}",
            )
            for r in results
        ],
    )  # fmt: skip
    if profiled:
        _profile(runner, speakers_at(runner, batches[0], contexts[0], seed))
    if plot is not None:
        lines = {
            f"{context} positions": [(r["batch"], r["rtf"]) for r in results if r["context"] == context]
            for context in contexts
        }
        draw(plot, f"{model}, {precision}: RTF of a step", "streams", "RTF", lines)
    finish(about, results)


def _row(
    batch: int, context: int, wall: Spread, cpu: Spread, floor: float, bandwidth: float, frame_rate: float
) -> dict[str, Any]:
    return {
        "batch": batch, "context": context, "wall": wall.to_dict(), "cpu": cpu.to_dict(), "floor": round(floor, 4),
        "share": round(floor / wall.median, 3), "rtf": round(wall.median * frame_rate / 1000, 4),
        "rtf_best": round(wall.best * frame_rate / 1000, 4), "bandwidth": round(bandwidth),
    }  # fmt: skip


def _profile(runner: SledRunner, speakers: Speakers) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(2 * NOISE_BLOCK):
            speakers.step()
    runner.state.filled[: len(speakers.texts)] = [1] * len(speakers.texts)
    averages = seen.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    rows = sorted(averages, key=lambda event: -event.self_cpu_time_total)[:14]
    show(
        f"where the time goes: {total / 2000 / NOISE_BLOCK:.2f} ms a step under the profiler",
        ("operation", "share", "calls a step"),
        [(e.key, f"{e.self_cpu_time_total / total:.1%}", f"{e.count / 2 / NOISE_BLOCK:.1f}") for e in rows],
    )
