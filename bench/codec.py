"""Speed of the codec's streaming decode for each chunk length and batch, beside offline decode.

Random weights of the published 24 kHz shape unless a codec is given: speed does not depend on the values. RTF is
compute time over audio time, a stream's share of its batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from sled_tts.bench.common import draw, finish, introduce, machine, show
from sled_tts.bench.shapes import random_codec
from sled_tts.model.codec.codec import Codec

CHUNKS = (1, 2, 4, 8, 16, 64)
BATCHES = (1, 2, 4, 8, 16)


def median_s(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of one call, after two calls of warm-up."""
    times = []
    for turn in range(repeats + 2):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= 2:
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def measure(codec: Codec, device: torch.device, seconds: float, batches: Sequence[int]) -> list[dict[str, float]]:
    """One row for each batch and chunk length; `chunk` 0 is offline decode of the whole."""
    config, rows = codec.config, []
    frames = max(config.first_chunk_frames, round(seconds * config.frame_rate))
    for batch in batches:
        latents = torch.randn(batch, max(frames, *CHUNKS), config.dimension, device=device)
        whole = latents[:, :frames]
        took = median_s(partial(codec.decode, whole), device, 3)
        rows.append({"batch": batch, "chunk": 0, "ms": 1e3 * took, "rtf": took * config.frame_rate / frames / batch})
        decoder = codec.streaming_decoder(batch)
        decoder.decode(list(latents[:, : config.first_chunk_frames]), range(batch))
        for chunk in CHUNKS:
            chunks = list(latents[:, :chunk])
            repeats = max(5, round(frames / chunk / 4))
            took = median_s(partial(decoder.decode, chunks, range(batch)), device, repeats)
            share = took * config.frame_rate / chunk / batch
            rows.append({"batch": batch, "chunk": chunk, "ms": 1e3 * took, "rtf": share})
    return rows


def run(
    folder: Path | None = None,
    batches: Sequence[int] = BATCHES,
    seconds: float = 6.0,
    threads: int | None = None,
    device: str = "cpu",
    seed: int = 0,
    plot: Path | None = None,
) -> None:
    """Measure, print a table and JSON; `plot` draws RTF over chunk length. `seconds` of audio for the offline row."""
    torch.set_num_threads(threads or torch.get_num_threads())
    torch.manual_seed(seed)
    on = torch.device(device)
    codec = (random_codec() if folder is None else Codec.load(folder)).to(on)
    about = machine(on) | {"seed": seed, "codec": str(folder or "published shape, random weights")}
    introduce(about)
    results = measure(codec, on, seconds, batches)
    show(
        "streaming decode",
        ("streams", "latents a call", "ms a call", "RTF a stream"),
        [
            (f"{r['batch']:g}", f"{r['chunk']:g}" if r["chunk"] else "offline", f"{r['ms']:.2f}", f"{r['rtf']:.4f}")
            for r in results
        ],
    )
    if plot is not None:
        lines = {
            f"{batch} streams": [(r["chunk"], r["rtf"]) for r in results if r["batch"] == batch and r["chunk"]]
            for batch in batches
        }
        draw(plot, "Streaming decode", "latents a call", "RTF a stream", lines)
    finish(about | {"config": codec.config.to_dict()}, results)
