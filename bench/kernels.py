"""Candidates for the products of one step: every matrix of the backbone once, in the published shape.

Weights are larger than any cache, so that each has to be read from memory, as in a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sled_tts.bench.common import Spread, finish, introduce, machine, show
from sled_tts.bench.roofline import read_bandwidth
from sled_tts.bench.shapes import published
from sled_tts.model.config import SledConfig
from sled_tts.model.native.library import load
from sled_tts.model.quantization import Kernel, Precision, available, pack, quantise_channels

Candidate = Callable[[Tensor], Kernel]


def _plain(dtype: torch.dtype, weight: Tensor) -> Kernel:
    held = weight.to(dtype)
    return lambda x: F.linear(x.to(dtype), held)


def _weight_only(weight: Tensor) -> Kernel:
    levels, scale = quantise_channels(weight)
    rounded = scale.bfloat16()
    return lambda x: torch._weight_int8pack_mm(x.bfloat16(), levels, rounded)


def candidates() -> dict[str, tuple[int, Candidate]]:
    """Name to bytes a weight and maker of the product."""
    found: dict[str, tuple[int, Candidate]] = {
        "F.linear fp32": (4, partial(_plain, torch.float32)),
        "packed fp32": (4, lambda w: pack(w, None, Precision.FP32)),
        "F.linear bf16": (2, partial(_plain, torch.bfloat16)),
        "int8 weights, bf16 activations": (1, _weight_only),
    }
    for name, size, precision in (("packed bf16", 2, Precision.BF16), ("packed int8", 1, Precision.INT8)):
        if available(precision):
            found[name] = (size, partial(pack, bias=None, precision=precision))
    if (native := load()) is not None:
        for name, size, precision in (
            ("fp32", 4, Precision.FP32),
            ("bf16", 2, Precision.BF16),
            ("int8", 1, Precision.INT8),
        ):
            found[f"compiled {name}"] = (size, partial(pack, bias=None, precision=precision, native=native))
    return found


def _shapes(config: SledConfig) -> list[tuple[int, int]]:
    size, inner = config.hidden_size, config.intermediate_size
    return [(3 * size, size), (size, size), (2 * inner, size), (size, inner)]


@torch.inference_mode()
def run(rows: Sequence[int] = (2, 4, 8, 16), rounds: int = 7, threads: int | None = None, seed: int = 0) -> None:
    """Time every candidate with every number of rows and print processor milliseconds."""
    torch.set_num_threads(threads or torch.get_num_threads())
    about = machine() | {"seed": seed, "bandwidth": round(read_bandwidth())}
    introduce(about)
    config = published()
    rng = torch.Generator().manual_seed(seed)
    weights = [
        torch.randn(shape, generator=rng) * 0.02 for shape in _shapes(config) for _ in range(config.num_hidden_layers)
    ]
    count = sum(weight.numel() for weight in weights)
    results: list[dict[str, Any]] = []
    for name, (size, make) in candidates().items():
        products = [(make(weight), weight.shape[1]) for weight in weights]
        for columns in rows:
            inputs = {width: torch.randn(columns, width, generator=rng) for _, width in products}
            times = []
            for turn in range(rounds + 1):
                began = time.thread_time()
                for product, width in products:
                    product(inputs[width])
                if turn:
                    times.append(1000 * (time.thread_time() - began))
            spread = Spread.of(times)
            rate = size * count / spread.median * 1000
            results.append({"product": name, "rows": columns, "cpu_ms": spread.to_dict(), "bytes_per_s": round(rate)})
    show(
        f"{len(weights)} products, {count / 1e6:.1f} M weights: milliseconds of the calling thread",
        ("product", "rows", "median (p10 .. p90)", "GB/s"),
        [
            (str(r["product"]), str(r["rows"]), str(Spread(**r["cpu_ms"])), f"{r['bytes_per_s'] / 1e9:.1f}")
            for r in results
        ],
    )
    finish(about, results)
