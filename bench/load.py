"""Load a running server with WebSocket clients that write one word every 50 ms, and report what they hear.

    python bench/load.py --url http://127.0.0.1:8000 --clients 16

Needs only the client dependencies. The last line is JSON. Exit code 1 when a client got no whole answer, or other
audio than it gets alone with the same seed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import websockets
from websockets.asyncio.client import ClientConnection, connect

# Different texts for different clients: nothing may be won by a cache of equal prefixes.
_VOCABULARY = """
the a this that every small large old new green river house garden morning evening letter window bridge stone bird
child teacher sailor market village mountain road train winter summer song story walks opens finds carries follows
watches builds remembers leaves reaches paints slowly quietly often never today again
"""
_AUDIBLE = 0.01 * 32767


@dataclass
class Heard:
    """One client's view. Times in seconds; `arrivals` holds (time since the first word, samples) of each chunk."""

    seed: int
    rate: int = 0
    first_word_at: float = 0.0
    last_word_at: float = 0.0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    pcm: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None
    error: str | None = None

    @property
    def ttfa_s(self) -> float | None:
        """First word sent to first byte of audio."""
        return self.arrivals[0][0] if self.arrivals else None

    @property
    def audible_s(self) -> float | None:
        """First word sent to the earliest moment at which a sample above 1 % of full scale can be heard."""
        loud = np.flatnonzero(np.abs(np.frombuffer(bytes(self.pcm), "<i2").astype(np.int32)) > _AUDIBLE)
        if not loud.size or not self.arrivals:
            return None
        return self.arrivals[0][0] + float(loud[0]) / self.rate

    @property
    def before_last_word(self) -> bool:
        return bool(self.arrivals) and self.first_word_at + self.arrivals[0][0] < self.last_word_at

    @property
    def gaps_s(self) -> list[float]:
        times = [at for at, _ in self.arrivals]
        return [b - a for a, b in pairwise(times)]

    def underruns(self, buffer_s: float, from_s: float = 0.0) -> int:
        """Times a player that starts `buffer_s` after the first byte runs dry; arrivals before `from_s` not counted."""
        if not self.arrivals:
            return 0
        empty_at, count = self.arrivals[0][0] + buffer_s, 0
        for at, samples in self.arrivals:
            if at > empty_at + 1e-4:
                count += at >= from_s
                empty_at = at
            empty_at += samples / self.rate
        return count

    @property
    def digest(self) -> str:
        return hashlib.sha256(bytes(self.pcm)).hexdigest()


async def client(url: str, headers: dict[str, str], words: list[str], seed: int, gap_s: float) -> Heard:
    """One utterance, one word every `gap_s` seconds."""
    heard = Heard(seed)
    try:
        async with connect(url, additional_headers=headers, compression=None, max_size=None, open_timeout=60) as socket:
            await socket.send(json.dumps({"type": "start", "seed": seed}))
            writing = asyncio.create_task(_write(socket, words, gap_s, heard))
            try:
                await _listen(socket, heard)
            finally:
                writing.cancel()
                await asyncio.wait({writing})
    except (OSError, websockets.WebSocketException) as error:
        heard.error = f"{type(error).__name__}: {error}"
    return heard


async def _write(socket: ClientConnection, words: list[str], gap_s: float, heard: Heard) -> None:
    heard.first_word_at = time.perf_counter()
    for k, word in enumerate(words):
        # Against the clock, not after the last send: a slow event loop must not slow the writer down.
        await asyncio.sleep(max(0.0, heard.first_word_at + k * gap_s - time.perf_counter()))
        heard.last_word_at = time.perf_counter()
        await socket.send(json.dumps({"type": "text", "text": word + " "}))
    await socket.send(json.dumps({"type": "end"}))


async def _listen(socket: ClientConnection, heard: Heard) -> None:
    async for frame in socket:
        if isinstance(frame, bytes):
            heard.arrivals.append((time.perf_counter() - heard.first_word_at, len(frame) // 2))
            heard.pcm += frame
            continue
        message = json.loads(frame)
        if message["type"] == "started":
            heard.rate = message["sample_rate"]
        elif message["type"] == "error":
            heard.error = f"{message['error']['code']}: {message['error']['message']}"
        elif message["type"] == "done":
            heard.done = message
            return


def percentiles(values: list[float]) -> dict[str, float] | None:
    """p50, p95, p99 and the largest, in milliseconds."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    figures = {"p50": p50, "p95": p95, "p99": p99, "max": max(values)}
    return {name: round(1000 * float(value), 1) for name, value in figures.items()}


def sentence(seed: int, words: int) -> list[str]:
    chosen = random.Random(seed).choices(_VOCABULARY.split(), k=words)
    return [chosen[0].capitalize(), *chosen[1:-1], chosen[-1] + "."]


def report(together: list[Heard], alone: list[Heard]) -> dict[str, Any]:
    """Every figure, from what the clients heard."""
    whole = [h for h in together if h.done is not None]
    same = [a.digest == b.digest for a, b in zip(alone, together, strict=True) if a.done and b.done]
    ends = {str(h.done["finish_reason"]) for h in whole if h.done}
    return {
        "clients": len(together),
        "whole_answers": len(whole),
        "finish_reasons": {end: sum(h.done["finish_reason"] == end for h in whole if h.done) for end in sorted(ends)},
        "errors": sorted({h.error for h in together + alone if h.error}),
        "audio_s": round(sum(len(h.pcm) / 2 / h.rate for h in whole), 2),
        "ttfa_ms": percentiles([h.ttfa_s for h in together if h.ttfa_s is not None]),
        "audible_ttfa_ms": percentiles([h.audible_s for h in together if h.audible_s is not None]),
        "ttfa_alone_ms": percentiles([h.ttfa_s for h in alone if h.ttfa_s is not None]),
        "audio_before_last_word": sum(h.before_last_word for h in together),
        "chunk_gap_ms": percentiles([gap for h in together for gap in h.gaps_s]),
        "underruns_0ms": sum(h.underruns(0.0) for h in together),
        "underruns_100ms": sum(h.underruns(0.1) for h in together),
        # While words still arrive a stream may have to wait for its writer; after that every gap is the server's.
        "underruns_100ms_after_text": sum(h.underruns(0.1, h.last_word_at - h.first_word_at) for h in together),
        "rtf": round(float(np.mean([h.done["rtf"] or 0 for h in whole if h.done])), 4) if whole else None,
        "identical_to_alone": sum(same),
        "compared_to_alone": len(same),
    }


async def run(options: argparse.Namespace) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
    async with httpx.AsyncClient(base_url=options.url, headers=headers) as http:
        ready = await http.get("/health/ready")
        if ready.status_code != 200:
            raise SystemExit(f"the server is not ready: {ready.text}")
        models = (await http.get("/v1/models")).json()["data"]
    url = options.url.replace("http", "ws", 1).rstrip("/") + "/v1/stream"
    seeds = [options.seed + k for k in range(options.clients)]
    texts = [sentence(seed, options.words) for seed in seeds]
    gap_s = options.gap_ms / 1000
    print(f"machine: {platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    libraries = ("websockets", "httpx", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    print(f"client: Python {platform.python_version()}, {versions}; seed {options.seed}")
    print(f"models: {', '.join(m['id'] + ' (' + m['kind'] + ', ' + m['device'] + ')' for m in models)}")
    await client(url, headers, texts[0], options.seed, gap_s)  # Warm-up, not counted.
    alone = []
    for k, (words, seed) in enumerate(zip(texts, seeds, strict=True)):
        alone.append(await client(url, headers, words, seed, gap_s))
        print(f"\ralone: {k + 1}/{len(seeds)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    # Clients do not start in step with each other.
    offsets = [random.Random(options.seed).uniform(0, options.spread_ms / 1000) for _ in seeds]
    began = time.perf_counter()
    jobs = [_later(at, url, headers, words, seed, gap_s) for at, words, seed in zip(offsets, texts, seeds, strict=True)]
    together = await asyncio.gather(*jobs)
    wall_s = time.perf_counter() - began
    figures = report(list(together), alone)
    figures |= {"wall_s": round(wall_s, 2), "audio_per_wall": round(figures["audio_s"] / wall_s, 2)}
    figures |= {"words": options.words, "gap_ms": options.gap_ms, "seed": options.seed, "models": models}
    return figures


async def _later(delay_s: float, url: str, headers: dict[str, str], words: list[str], seed: int, gap_s: float) -> Heard:
    await asyncio.sleep(delay_s)
    return await client(url, headers, words, seed, gap_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--api-key", default=os.environ.get("SLED_TTS_CLIENT_KEY"))
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--words", type=int, default=12)
    parser.add_argument("--gap-ms", type=float, default=50.0)
    parser.add_argument("--spread-ms", type=float, default=200.0)
    parser.add_argument("--seed", type=int, default=1)
    figures = asyncio.run(run(parser.parse_args()))
    for name, value in figures.items():
        if name != "models":
            print(f"{name:28} {value}")
    print(json.dumps(figures))
    whole = figures["whole_answers"] == figures["clients"] and not figures["errors"]
    return 0 if whole and figures["identical_to_alone"] == figures["clients"] else 1


if __name__ == "__main__":
    sys.exit(main())
