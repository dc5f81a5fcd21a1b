"""Whether a GPU computes what it should: kernels, graphs and precisions against eager fp32. Speed comes after this."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from sled_tts.bench.gpu_parts import PLAIN, Bench, begin, speech_rows
from sled_tts.model.kernels.choose import eight_bits_missing
from sled_tts.model.sled import Sled
from sled_tts.server.engine.comparing import LatentError, latent_error
from sled_tts.server.engine.placing import MOST_CACHE_ERROR, cache_error
from sled_tts.server.engine.runner import SledRunner

# Largest error that still counts as right, relative to what is computed.
ATTENTION_LIMITS = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
FP32_LIMIT, BF16_LIMIT = 2e-3, 0.1


def check_attention(bench: Bench) -> list[dict[str, Any]]:
    """The attention that is served against SDPA in fp32, column by column, over ragged lengths and unwritten NaN."""
    heads, dim = bench.config.num_attention_heads, bench.config.head_dim
    capacity = 256 if bench.tiny else 2048
    results = []
    for dtype, limit in ATTENTION_LIMITS.items():
        for columns in (1, 2, 64, 600) if bench.on_gpu else (2,):
            rng = torch.Generator(bench.device).manual_seed(bench.seed + columns)
            live = min(columns, 96)
            keys, values = (
                torch.randn(live, heads, capacity, dim, device=bench.device, generator=rng).to(dtype) for _ in range(2)
            )
            rows = torch.randint(0, live, (columns,), device=bench.device, generator=rng)
            lengths = torch.randint(1, capacity // 2, (columns,), device=bench.device, generator=rng)
            if bench.kernels.live_only:
                keys[:, :, capacity // 2 :] = values[:, :, capacity // 2 :] = float("nan")
            q = torch.randn(columns, heads, dim, device=bench.device, generator=rng).to(dtype)
            got = bench.kernels.attend(q, keys, values, rows, lengths).float()
            error = size = 0.0
            for i in range(columns):
                k, v = (t[rows[i], :, : lengths[i]].float() for t in (keys, values))
                want = F.scaled_dot_product_attention(q[i, :, None].float(), k, v)[:, 0]
                error = max(error, float((got[i] - want).abs().max()))
                size = max(size, float(want.abs().max()))
            results.append(
                {"dtype": str(dtype).removeprefix("torch."), "columns": columns, "error": error / size,
                 "limit": limit, "right": error / size <= limit}
            )  # fmt: skip
    return results


def _row(what: str, error: LatentError, limit: float) -> dict[str, Any]:
    return {"what": what, "error": error.overall, "worst_frame": error.worst_frame, "limit": limit,
            "right": error.overall <= limit}  # fmt: skip


def check_latents(bench: Bench) -> list[dict[str, Any]]:
    """Latents, teacher-forced, of one implementation against another."""
    streams, frames = (2, 12) if bench.tiny else (4, 48)
    positions, width = 128, bench.config.latent_dim
    exact, served = bench.sled(torch.float32), bench.sled(bench.dtype)
    results = []

    def compare(what: str, left: Any, right: Any, limit: float) -> None:
        results.append(_row(what, latent_error(left, right, streams=streams, frames=frames, seed=bench.seed), limit))

    ragged = SledRunner(
        bench.sled(torch.float32, "cpu"), bench.codec, torch.zeros(width), torch.ones(width),
        slots=streams, positions=positions,
    )  # fmt: skip
    eager = bench.runner(exact, streams, positions, kernels=PLAIN, graphed=False)
    compare("plain torch fp32, eager, against the CPU's ragged steps", ragged, eager, FP32_LIMIT)
    compare(
        "kernels fp32, eager, against plain torch",
        eager,
        bench.runner(exact, streams, positions, graphed=False),
        FP32_LIMIT,
    )
    compare("kernels fp32, graphs, against plain torch", eager, bench.runner(exact, streams, positions), FP32_LIMIT)
    compare(
        "kernels as served, graphs, against plain torch fp32",
        eager,
        bench.runner(served, streams, positions),
        BF16_LIMIT,
    )
    results.append(check_eight_bits(bench, served))
    return results


def check_eight_bits(bench: Bench, served: Sled) -> dict[str, Any]:
    """8-bit keys and values against those served. `not_run` says why a device cannot hold them; whatever else goes
    wrong counts as wrong."""
    what = "8-bit keys and values against those served"
    capability = torch.cuda.get_device_capability(bench.device) if bench.on_gpu else None
    if (reason := eight_bits_missing(bench.kernels.name, capability)) is not None:
        return {"what": what, "not_run": reason}
    try:
        found = cache_error(lambda s, p: bench.runner(served, s, p, graphed=False), served, bench.seed)
    except NotImplementedError as error:  # torch has an operator of e4m3 for other devices only
        return {"what": what, "not_run": str(error)[:500]}
    except Exception as error:
        return {"what": what, "failed": f"{type(error).__name__}: {error}"[:500], "right": False}
    return _row(what, found, MOST_CACHE_ERROR)


def check_graphs(bench: Bench) -> dict[str, Any]:
    """Graphs against the same kernels launched one by one, as served: streams that come and go, bit for bit."""
    streams = 4 if bench.tiny else 24
    sled = bench.sled(bench.dtype)
    pair = [bench.runner(sled, streams, 128, graphed=graphed) for graphed in (None, False)]
    for runner in pair:
        begin(runner, streams, bench.seed)
    difference = 0.0
    for step in range(20):
        rows = speech_rows(streams)[step % 3 : streams - step % 2]
        for runner in pair:
            runner.step(rows)
    for slot in range(streams):
        frames = pair[0].state.filled[slot]
        assert frames == pair[1].state.filled[slot]
        a, b = (runner.latents(slot, 0, frames) for runner in pair)
        difference = max(difference, float(abs(a - b).max()))
    return {
        "graphs": len(pair[0].graphs.graphs) + len(pair[0].speech.graphs),
        "largest_difference": difference,
        "right": difference <= 1e-3,
    }
