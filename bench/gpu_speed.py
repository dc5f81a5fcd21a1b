"""How fast a GPU is at the parts of serving: attention, whole steps, the codec, each beside what memory allows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from sled_tts.bench.common import Spread
from sled_tts.bench.gpu_parts import PLAIN, Bench, begin, fill_cache, set_context, speech_rows
from sled_tts.bench.roofline import Traffic
from sled_tts.model.quantization import Precision
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.state import NOISE_BLOCK
from sled_tts.server.engine.work import DecodeWork

_BLOCKS = 6


def attention(
    bench: Bench, runner: DeviceRunner, streams: Sequence[int], contexts: Sequence[int], bandwidth: float
) -> list[dict[str, Any]]:
    """One layer's attention of guided streams whose lengths are spread over the upper half of a context. Layers take
    turns, or caches of the processor would answer. `even` is SDPA over equal lengths, which it cannot do better."""
    cache, (heads, dim) = runner.state.cache, (bench.config.num_attention_heads, bench.config.head_dim)
    results = []
    for count in streams:
        for context in contexts:
            rng = torch.Generator(bench.device).manual_seed(bench.seed)
            rows = torch.arange(2 * count, device=bench.device)
            lengths = torch.randint(context // 2, context + 1, (2 * count,), device=bench.device, generator=rng)
            q = torch.randn(2 * count, heads, dim, device=bench.device, generator=rng).to(bench.dtype)
            layer = 0

            def served() -> None:
                nonlocal layer
                layer = (layer + 1) % len(cache.keys)
                bench.kernels.attend(q, cache.keys[layer], cache.values[layer], rows, lengths)  # noqa: B023

            def gathered() -> None:
                nonlocal layer
                layer = (layer + 1) % len(cache.keys)
                keys, values = (part[layer][:, :, :context] for part in (cache.keys, cache.values))  # noqa: B023
                PLAIN.attend(q, keys, values, rows, lengths)  # noqa: B023

            def even() -> None:
                nonlocal layer
                layer = (layer + 1) % len(cache.keys)
                keys, values = (part[layer][: 2 * count, :, :context] for part in (cache.keys, cache.values))  # noqa: B023
                F.scaled_dot_product_attention(q[:, :, None], keys, values)  # noqa: B023

            read = 2 * int(lengths.sum()) * heads * dim * q.element_size()
            ms = {work.__name__: bench.milliseconds(work) for work in (served, gathered, even)}
            floor = 1000 * read / bandwidth
            results.append(
                {"streams": count, "context": context, **{f"{k}_ms": round(v, 4) for k, v in ms.items()},
                 "floor_ms": round(floor, 4), "share": round(floor / ms["served"], 3)}
            )  # fmt: skip
            if bench.out_of_time():
                return results
    return results


def step_milliseconds(runner: DeviceRunner, streams: int, context: int) -> tuple[list[float], list[float]]:
    """Wall and host milliseconds a step, means of `NOISE_BLOCK` steps one behind the other, as the engine runs them."""
    rows, wall, host = speech_rows(streams), list[float](), list[float]()
    for turn in range(_BLOCKS + 1):
        set_context(runner, streams, context)
        pending = runner.launch(rows)
        began, busy = time.perf_counter(), 0.0
        for _ in range(NOISE_BLOCK):
            launched = time.perf_counter()
            following = runner.launch(rows)
            busy += time.perf_counter() - launched
            pending.wait()
            pending = following
        pending.wait()
        # One more step was under way at the beginning than is counted, and none is at the end.
        if turn:
            wall.append(1000 * (time.perf_counter() - began) / NOISE_BLOCK)
            host.append(1000 * busy / NOISE_BLOCK)
    return wall, host


def steps(
    bench: Bench, runners: dict[str, DeviceRunner], streams: Sequence[int], contexts: Sequence[int], bandwidth: float
) -> list[dict[str, Any]]:
    """Each way to run a step, by streams and context; the first way is compared with what memory allows."""
    results = []
    width = next(iter(runners.values())).state.cache.keys[0].element_size()
    weights = Precision.BF16 if bench.dtype == torch.bfloat16 else Precision.FP32
    for count in streams:
        for context in contexts:
            row: dict[str, Any] = {"streams": count, "context": context}
            for name, runner in runners.items():
                if count > runner.info.slots:
                    continue
                wall, host = step_milliseconds(runner, count, context)
                row[name] = Spread.of(wall).to_dict()
                row[f"{name}_host_ms"] = round(Spread.of(host).median, 4)
            best = row[next(iter(runners))]["median"]
            floor = 1000 * Traffic.of(bench.config, weights, 2 * count, context, width, count).total / bandwidth
            frame_ms = 1000 / next(iter(runners.values())).info.frame_rate
            row |= {"floor_ms": round(floor, 4), "share": round(floor / best, 3), "rtf": round(best / frame_ms, 4),
                    "times_real_time": round(count * frame_ms / best, 1)}  # fmt: skip
            results.append(row)
            if bench.out_of_time():
                return results
    return results


def prepare_streams(runner: DeviceRunner, seed: int) -> None:
    begin(runner, runner.info.slots, seed)
    fill_cache(runner, seed)


def codec(bench: Bench, runner: DeviceRunner, streams: Sequence[int]) -> list[dict[str, Any]]:
    """A decode of first chunks and of four frames each, from the call to the samples in host memory."""
    first, results = runner.info.first_chunk_frames, []
    for count in streams:
        ms = {}
        for name, frames in (("first", first), ("next", 4)):
            times = []
            for turn in range(6):
                for slot in range(count):
                    runner.speech.reset(slot)
                if name == "next":
                    runner.decode([DecodeWork(slot, 0, first, False) for slot in range(count)])
                at = 0 if name == "first" else first
                began = time.perf_counter()
                runner.decode([DecodeWork(slot, at, frames, False) for slot in range(count)])
                if turn:
                    times.append(1000 * (time.perf_counter() - began))
            ms[f"{name}_ms"] = Spread.of(times).to_dict()
        results.append({"streams": count, **ms})
        if bench.out_of_time():
            break
    return results
