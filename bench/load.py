"""Load a running server and report what its listeners hear: first audio, gaps, underruns, errors.

    sled-tts bench load --url http://127.0.0.1:8000 --clients 16
    sled-tts bench load --rate 4 --requests 200 --protocol mixed --gap-ms 0

With `--clients` the loop is closed: each client asks again when it has been answered, `--rounds` times. With `--rate`
it is open: requests come at random moments, so many a second (Poisson), whether or not others have been answered.
Text comes one word every `--gap-ms`, whole when that is 0; over REST always whole. `--alone` also speaks every text by
itself first and compares the audio. The last line is JSON. Exit code 1 when an answer was not whole or not the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sled_tts.bench.listeners import Heard, Target, over_rest, over_websocket, percentiles, sentence
from sled_tts.bench.serving import client_machine


async def ask(target: Target, number: int, options: argparse.Namespace) -> Heard:
    """The `number`-th utterance of a run: its text, seed and protocol follow from the number."""
    seed = options.seed * 100_003 + number
    words = sentence(seed, options.words)
    rest = options.protocol == "rest" or (options.protocol == "mixed" and number % 2)
    if rest:
        return await over_rest(target, words, seed)
    return await over_websocket(target, words, seed, options.gap_ms / 1000)


async def closed_loop(target: Target, options: argparse.Namespace) -> list[Heard]:
    """Every client in turn; clients do not start in step with each other."""
    rng = random.Random(options.seed)

    async def client(index: int, delay_s: float) -> list[Heard]:
        await asyncio.sleep(delay_s)
        return [await ask(target, index + k * options.clients, options) for k in range(options.rounds)]

    delays = [rng.uniform(0, options.spread_ms / 1000) for _ in range(options.clients)]
    turns = await asyncio.gather(*(client(k, delay) for k, delay in enumerate(delays)))
    return [turns[k % options.clients][k // options.clients] for k in range(options.clients * options.rounds)]


async def open_loop(target: Target, options: argparse.Namespace) -> list[Heard]:
    """Arrivals with exponential gaps against the clock: a slow answer puts nobody off."""
    rng = random.Random(options.seed)
    began, at, asked = time.perf_counter(), 0.0, []
    for number in range(options.requests):
        at += rng.expovariate(options.rate)
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        asked.append(asyncio.create_task(ask(target, number, options)))
    return list(await asyncio.gather(*asked))


def report(heard: list[Heard]) -> dict[str, Any]:
    """Every figure, from what the clients heard."""
    whole = [h for h in heard if h.done is not None]
    ends = [str(h.done["finish_reason"]) for h in whole if h.done]
    rtf = [h.done["rtf"] for h in whole if h.done and h.done["rtf"] is not None]
    refused = sum(h.error is not None and ("503" in h.error or "over_capacity" in h.error) for h in heard)
    return {
        "requests": len(heard),
        "whole_answers": len(whole),
        "refused": refused,
        "failed": len(heard) - len(whole) - refused,
        "finish_reasons": {end: ends.count(end) for end in sorted(set(ends))},
        "errors": sorted({h.error for h in heard if h.error})[:10],
        "audio_s": round(sum(h.audio_s for h in whole), 2),
        "ttfa_ms": percentiles([h.ttfa_s for h in heard if h.ttfa_s is not None]),
        "audible_ttfa_ms": percentiles([h.audible_s for h in heard if h.audible_s is not None]),
        "audio_before_last_word": sum(h.before_last_word for h in heard),
        "chunk_gap_ms": percentiles([gap for h in heard for gap in h.gaps_s]),
        "underruns_0ms": sum(h.underruns(0.0) for h in heard),
        "underruns_100ms": sum(h.underruns(0.1) for h in heard),
        # While words still arrive a stream may have to wait for its writer; after that every gap is the server's.
        "underruns_100ms_after_text": sum(h.underruns(0.1, h.last_word_at - h.first_word_at) for h in heard),
        "rtf": {"mean": round(float(np.mean(rtf)), 4), "max": round(max(rtf), 4)} if rtf else None,
    }


async def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[Heard]]:
    """One load run against a server that is ready; the first utterance is warm-up and not counted."""
    target = Target(options.url, options.api_key)
    async with target.http() as http:
        ready = await http.get("/health/ready")
        if ready.status_code != 200:
            raise SystemExit(f"the server is not ready: {ready.text}")
        models = (await http.get("/v1/models")).json()["data"]
    await ask(target, -1, options)
    alone: list[Heard] = []
    if options.alone:
        count = options.requests if options.rate else options.clients * options.rounds
        alone = [await ask(target, number, options) for number in range(count)]
    began = time.perf_counter()
    heard = await (open_loop if options.rate else closed_loop)(target, options)
    wall_s = time.perf_counter() - began
    figures = report(heard)
    figures |= {"wall_s": round(wall_s, 2), "audio_per_wall": round(figures["audio_s"] / wall_s, 2)}
    if alone:
        pairs = [(a, b) for a, b in zip(alone, heard, strict=True) if a.done and b.done]
        figures["ttfa_alone_ms"] = percentiles([h.ttfa_s for h in alone if h.ttfa_s is not None])
        figures["compared_to_alone"] = len(pairs)
        figures["identical_to_alone"] = sum(a.digest == b.digest for a, b in pairs)
    return figures | {"models": models}, heard


def plot(path: Path, heard: list[Heard]) -> None:
    """How many listeners had their first byte, and their first audible sample, after so long."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install 'sled-tts[plot]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name, values in (
        ("first byte", [h.ttfa_s for h in heard if h.ttfa_s is not None]),
        ("first audible sample", [h.audible_s for h in heard if h.audible_s is not None]),
    ):
        ordered = sorted(values)
        axes.step([1000 * v for v in ordered], np.arange(1, len(ordered) + 1) / max(1, len(ordered)), label=name)
    axes.set(xlabel="ms after the first word", ylabel="share of utterances", ylim=(0, 1), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--url", default="http://127.0.0.1:8000")
    made.add_argument("--api-key", default=os.environ.get("SLED_TTS_CLIENT_KEY"))
    made.add_argument("--protocol", choices=("ws", "rest", "mixed"), default="ws")
    made.add_argument("--clients", type=int, default=16)
    made.add_argument("--rounds", type=int, default=1)
    made.add_argument("--rate", type=float, default=0.0, help="Requests a second, open loop.")
    made.add_argument("--requests", type=int, default=100, help="How many in an open loop.")
    made.add_argument("--words", type=int, default=12)
    made.add_argument("--gap-ms", type=float, default=50.0)
    made.add_argument("--spread-ms", type=float, default=200.0)
    made.add_argument("--alone", action="store_true")
    made.add_argument("--plot", type=Path)
    made.add_argument("--seed", type=int, default=1)
    return made


def main() -> int:
    options = parser().parse_args()
    about = client_machine() | {
        name: getattr(options, name) for name in ("protocol", "clients", "rounds", "rate", "words", "gap_ms", "seed")
    }
    figures, heard = asyncio.run(run(options))
    if options.plot:
        plot(options.plot, heard)
    for name, value in figures.items():
        if name != "models":
            print(f"{name:28} {value}")
    print(json.dumps({"about": about, "results": figures}))
    same = figures.get("identical_to_alone") == figures.get("compared_to_alone")
    return 0 if same and figures["whole_answers"] == figures["requests"] else 1


if __name__ == "__main__":
    sys.exit(main())
