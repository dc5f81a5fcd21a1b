"""Everything that a GPU is to be asked, in one command of ten minutes: first whether it computes the right numbers,
then how fast.

    sled-tts bench gpu
    bash scripts/gpu_check.sh        (a plain checkout; needs torch, triton, numpy, rich, safetensors)

Random weights of the published shape, guided streams that never stop. Attention kernels, graphs and precisions are
checked against eager fp32; then attention and steps by streams and context beside what memory allows, the codec, one
stream's first audio and RTF, throughput of 64 streams, and how many 10 s streams are always under way before a listener
with 100 ms of buffer runs dry. What does not fit into `--minutes` is named as left out. JSON last.

Exit code 2 without a GPU, 1 when a number is wrong. `--device cpu --tiny` goes the same way on a CPU, to try the path.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from sled_tts.bench import gpu_checks, gpu_load, gpu_speed
from sled_tts.bench.common import finish, introduce, machine
from sled_tts.bench.gpu_parts import PLAIN, Bench
from sled_tts.bench.roofline import read_bandwidth
from sled_tts.model.kernels.choose import KernelChoice, choose_kernels
from sled_tts.server.engine.device_runner import DeviceRunner


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def about_gpu(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    found = machine(bench.device) | {"triton": _version("triton"), "kernels": bench.kernels.name, "seed": bench.seed}
    found |= {"dtype": str(bench.dtype).removeprefix("torch."), "tiny": bench.tiny, "slots": options.slots}
    if bench.on_gpu:
        properties = torch.cuda.get_device_properties(bench.device)
        found |= {
            "capability_gpu": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
        }
    return found


def sections(bench: Bench, slots: int, results: dict[str, Any]) -> list[tuple[str, Callable[[], Any]]]:
    """In the order of their worth; later ones are left out when time is up."""
    tiny = bench.tiny
    counts = [n for n in ((1, 2) if tiny else (1, 4, 16, 64, 128, 256, 512)) if n <= slots]
    contexts = (32, 64) if tiny else (128, 384, 800)
    positions = 128 if tiny else 1024
    held: dict[str, DeviceRunner] = {}

    def served() -> DeviceRunner:
        if "served" not in held:
            held["served"] = bench.runner(bench.sled(bench.dtype), slots, positions)
            gpu_speed.prepare_streams(held["served"], bench.seed)
        return held["served"]

    def bandwidth() -> float:
        return float(results["bandwidth_gb_s"]) * 1e9

    def step_rows() -> Any:
        ways = {"graphs": served()}
        some = min(slots, 64)
        for name, kernels in (("eager", bench.kernels), ("plain_torch", PLAIN)):
            ways[name] = bench.runner(served().sled, some, positions, kernels=kernels, graphed=False)
            gpu_speed.prepare_streams(ways[name], bench.seed)
        return gpu_speed.steps(bench, ways, counts, contexts, bandwidth())

    def sweep() -> Any:
        rows = []
        for count in [n for n in counts if n >= (2 if tiny else 128)]:
            seconds, stream_s = (1.0, 0.4) if tiny else (25.0, 10.0)
            rows.append(gpu_load.always(bench, served(), count, seconds, stream_s))
            print(rows[-1], flush=True)
            if rows[-1]["underruns_100ms"] or bench.out_of_time():
                break
        return rows

    return [
        ("attention_right", lambda: gpu_checks.check_attention(bench)),
        ("latents_right", lambda: gpu_checks.check_latents(bench)),
        ("graphs_right", lambda: gpu_checks.check_graphs(bench)),
        ("bandwidth_gb_s", lambda: round(read_bandwidth(64 if tiny else 4096, 5, bench.device) / 1e9, 1)),
        ("one_stream", lambda: gpu_load.always(bench, served(), 1, 1.0 if tiny else 10.0, 0.4 if tiny else 2.0)),
        (
            "throughput_64",
            lambda: gpu_load.always(bench, served(), min(64, slots), 1.0 if tiny else 15.0, 0.4 if tiny else 8.0),
        ),
        ("streams_before_underrun", sweep),
        ("steps", step_rows),
        ("attention", lambda: gpu_speed.attention(bench, served(), counts, contexts, bandwidth())),
        ("codec", lambda: gpu_speed.codec(bench, served(), counts)),
    ]


def _checked(results: dict[str, Any]) -> list[dict[str, Any]]:
    found = [results.get(name, []) for name in ("attention_right", "latents_right", "graphs_right")]
    return [row for part in found for row in (part if isinstance(part, list) else [part]) if isinstance(row, dict)]


def wrong(results: dict[str, Any]) -> list[str]:
    """Names of the checks that failed."""
    return [str(row.get("what", row)) for row in _checked(results) if row.get("right") is False]


def not_run(results: dict[str, Any]) -> list[str]:
    """Checks that this machine cannot run, and why."""
    return [f"{row['what']}: {row['not_run']}" for row in _checked(results) if "not_run" in row]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="A small network and short runs.")
    parser.add_argument(
        "--slots", type=int, default=512, help="Most streams at once; 512 take 53 GB of keys and values."
    )
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--kernels", choices=[str(k) for k in KernelChoice], default="auto")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU that torch can use was found: nothing was measured", file=sys.stderr)
        return 2
    began = time.perf_counter()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    kernels = choose_kernels(device, dtype, KernelChoice(options.kernels))
    bench = Bench(device, kernels, options.tiny, options.seed, began + 60 * options.minutes)
    options.slots = min(options.slots, 2) if options.tiny else options.slots
    about = about_gpu(bench, options)
    introduce(about)
    results: dict[str, Any] = {}
    for name, measure in sections(bench, options.slots, results):
        if bench.out_of_time():
            results[name] = "left out: time was up"
            continue
        at = time.perf_counter()
        try:
            with torch.inference_mode():
                results[name] = measure()
        except Exception as error:
            results[name] = {"failed": f"{type(error).__name__}: {error}"[:500], "right": False}
        print(f"\n{name} ({time.perf_counter() - at:.1f} s)", flush=True)
        for row in results[name] if isinstance(results[name], list) else [results[name]]:
            print(" ", row, flush=True)
        gc.collect()
    about["seconds"] = round(time.perf_counter() - began, 1)
    failures = wrong(results)
    for row in not_run(results):
        print(f"\nnot run here: {row}")
    print(f"\nwrong: {failures or 'nothing'}")
    finish(about, results)
    broken = [name for name, found in results.items() if isinstance(found, dict) and "failed" in found]
    return 1 if failures or broken else 0


if __name__ == "__main__":
    sys.exit(main())
