"""Speed of the codec's streaming decode for each chunk length and batch, beside offline decode.

    python bench/codec.py [--codec FOLDER] [--threads N] [--device cpu] [--seconds 6] [--seed 0]

Random weights of the published 24 kHz shape unless a codec is given: speed does not depend on the values. Prints a
table, then one JSON object on the last line. RTF is compute time over audio time, a stream's share of its batch.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.codec.networks import init_for_training

CHUNKS = (1, 2, 4, 8, 16, 64)
BATCHES = (1, 2, 4, 8, 16)


def machine(device: torch.device) -> dict[str, Any]:
    """What a number cannot be read without."""
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpu": names[0].split(":")[1].strip() if names else platform.processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


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


def measure(codec: Codec, device: torch.device, seconds: float) -> list[dict[str, float]]:
    """One row for each batch and chunk length; `chunk` 0 is offline decode of the whole."""
    config, rows = codec.config, []
    frames = max(config.first_chunk_frames, round(seconds * config.frame_rate))
    for batch in BATCHES:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--codec", type=Path, help="codec folder or weight file")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=6.0, help="audio for the offline row")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    if options.codec is None:
        codec = Codec(CodecConfig()).eval().requires_grad_(False)
        init_for_training(codec.decoder)
    else:
        codec = Codec.load(options.codec)
    about = machine(device) | {"seed": options.seed, "codec": str(options.codec or "published shape, random weights")}
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n")
    results = measure(codec.to(device), device, options.seconds)
    print(f"{'batch':>5} {'latents':>8} {'ms a call':>10} {'RTF a stream':>13}")
    for row in results:
        label = "offline" if row["chunk"] == 0 else str(row["chunk"])
        print(f"{row['batch']:>5} {label:>8} {row['ms']:>10.2f} {row['rtf']:>13.4f}")
    print(json.dumps({"about": about, "config": codec.config.to_dict(), "results": results}))


if __name__ == "__main__":
    main()
