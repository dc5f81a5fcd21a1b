"""Mixed load with abrupt disconnects for a long time: does the server keep its slots, its memory and its pace?

    sled-tts bench soak --minutes 60

Without `--url` it starts a server of its own. A line of JSON for every minute goes to standard error; the last line of
standard output is JSON too, also after an interrupt. Exit code 1 when a slot was not given back, an utterance failed,
or resident memory grew by more than `--max-growth-mb` after the first tenth.

An utterance whose voice found no end within its bound is cut, which the server says (over HTTP by breaking off); that
is the voice's doing and counted by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from sled_tts.bench.listeners import Heard, Target, over_rest, over_websocket, percentiles, sentence
from sled_tts.bench.serving import ServerProcess, client_machine, started_server

_SETTLE_S = 15.0
_CUT = "length limit"


@dataclass
class Soak:
    """One run. `ended` holds (seconds since the start, what was heard without its samples)."""

    target: Target
    server: ServerProcess | None
    seed: int
    disconnects: float
    ended: list[tuple[float, Heard]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    async def talk(self, number: int, until_s: float) -> None:
        """One client that speaks again and again, each time in another way."""
        rng = random.Random(self.seed * 1000 + number)
        while self.elapsed_s < until_s:
            seed = rng.randrange(2**40)
            words = sentence(seed, rng.randint(3, 16))
            leave = rng.randint(0, 6) if rng.random() < self.disconnects else None
            kind = rng.choice(("trickle", "whole", "rest"))
            if kind == "rest":
                heard = await over_rest(self.target, words, seed, leave_after=leave)
            else:
                gap_s = rng.uniform(0.01, 0.05) if kind == "trickle" else 0.0
                heard = await over_websocket(self.target, words, seed, gap_s, leave_after=leave)
            if kind == "rest" and heard.error is not None:
                await self.ask_why(heard, words)
            if heard.error or was_cut(heard):
                seen = {"kind": kind, "seed": seed, "words": len(words), "audio_s": round(heard.audio_s, 2)}
                print(json.dumps(seen | {"cut": was_cut(heard), "error": heard.error}), file=sys.stderr, flush=True)
            heard.pcm = bytearray()
            self.ended.append((self.elapsed_s, heard))
            if heard.error:
                await asyncio.sleep(0.5)
            await asyncio.sleep(rng.uniform(0.0, 0.3))

    async def ask_why(self, heard: Heard, words: list[str]) -> None:
        """A broken HTTP body gives no reason; the same text and seed over a WebSocket does."""
        again = await over_websocket(self.target, words, heard.seed, 0.0)
        if was_cut(again):
            heard.error = f"{_CUT} ({heard.error})"

    async def watch(self, every_s: float) -> None:
        """A line a minute: what has happened, and the server's memory and slots."""
        while True:
            slots = await self.slots_in_use()
            now, resident = self.elapsed_s, self.server.resident_mb() if self.server else None
            if resident is not None:
                self.memory.append((now, resident))
            recent = self.heard_between(now - every_s, now)
            line = {"s": round(now), "utterances": len(self.ended), "slots_in_use": slots, "rss_mb": resident}
            print(json.dumps(line | {"ttfa_ms": ttfa(recent)}), file=sys.stderr, flush=True)
            await asyncio.sleep(every_s)

    async def slots_in_use(self) -> int | None:
        try:
            async with self.target.http() as http:
                return int((await http.get("/health/ready")).json()["slots_in_use"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            print(f"no answer about slots: {error!r}", file=sys.stderr)
            return None

    def heard_between(self, start_s: float, end_s: float) -> list[Heard]:
        return [heard for at, heard in self.ended if start_s <= at < end_s]

    def memory_by_tenths(self, end_s: float) -> list[float]:
        """The largest resident memory seen in each tenth of the run."""
        parts = [[mb for at, mb in self.memory if k <= 10 * at / (end_s or 1) < k + 1] for k in range(11)]
        return [max(part) for part in parts if part]

    def report(self, slots_at_end: int | None, interrupted: bool) -> dict[str, Any]:
        end = max((at for at, _ in self.ended), default=0.0)
        tenth = end / 10
        opening, closing = self.heard_between(0, tenth), self.heard_between(end - tenth, end + 1)
        settled = [mb for at, mb in self.memory if at >= tenth] or [mb for _, mb in self.memory]
        errors = [heard.error for _, heard in self.ended if heard.error and not was_cut(heard)]
        return {
            "minutes": round(end / 60, 1),
            "interrupted": interrupted,
            "utterances": len(self.ended),
            "whole": sum(heard.done is not None for _, heard in self.ended),
            "left_on_purpose": sum(heard.left for _, heard in self.ended),
            "cut_at_length_limit": sum(was_cut(heard) for _, heard in self.ended),
            "errors": len(errors),
            "error_kinds": sorted(set(errors))[:10],
            "slots_in_use_at_end": slots_at_end,
            "rss_mb_at_start": self.memory[0][1] if self.memory else None,
            "rss_mb_after_a_tenth": settled[0] if settled else None,
            "rss_mb_at_end": settled[-1] if settled else None,
            "rss_mb_by_tenths": self.memory_by_tenths(end),
            "ttfa_ms_first_tenth": ttfa(opening),
            "ttfa_ms_last_tenth": ttfa(closing),
        }


def was_cut(heard: Heard) -> bool:
    """Whether the utterance reached its length limit: REST breaks off, a WebSocket ends by `length`."""
    ended = heard.done is not None and heard.done["finish_reason"] == "length"
    return ended or (heard.error is not None and _CUT in heard.error)


def ttfa(heard: list[Heard]) -> dict[str, float] | None:
    """Of those that got audio."""
    return percentiles([h.ttfa_s for h in heard if h.ttfa_s is not None])


async def run(options: argparse.Namespace, target: Target, server: ServerProcess | None) -> dict[str, Any]:
    soak = Soak(target, server, options.seed, options.disconnects)
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    talking = [asyncio.create_task(soak.talk(k, options.minutes * 60)) for k in range(options.clients)]
    watching = asyncio.create_task(soak.watch(60.0))
    stopping = asyncio.create_task(stop.wait())
    everybody = asyncio.gather(*talking)
    first: set[asyncio.Future[Any]] = {everybody, stopping}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    for task in (*talking, watching, stopping):
        task.cancel()
    faults = await asyncio.gather(*talking, return_exceptions=True)
    with contextlib.suppress(asyncio.CancelledError):
        await everybody
    for fault in faults:
        if isinstance(fault, Exception):
            raise fault
    deadline = time.monotonic() + _SETTLE_S
    while (slots := await soak.slots_in_use()) and time.monotonic() < deadline:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.2)
    if server is not None:
        soak.memory.append((soak.elapsed_s, server.resident_mb()))
    return soak.report(slots, stop.is_set())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="A running server; without it one is started.")
    parser.add_argument("--pid", type=int, help="The process at --url, if its memory is to be watched.")
    parser.add_argument("--api-key", default=os.environ.get("SLED_TTS_CLIENT_KEY"))
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--disconnects", type=float, default=0.2)
    parser.add_argument("--max-growth-mb", type=float, default=64.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    about = client_machine() | {"seed": options.seed, "clients": options.clients, "disconnects": options.disconnects}
    if options.url:
        watched = None if options.pid is None else ServerProcess(options.url, options.pid)
        figures = asyncio.run(run(options, Target(options.url, options.api_key), watched))
    else:
        with started_server(options.model, options.slots) as server:
            figures = asyncio.run(run(options, Target(server.url), server))
    for name, value in figures.items():
        print(f"{name:24} {value}")
    print(json.dumps({"about": about, "results": figures}))
    before, after = figures["rss_mb_after_a_tenth"], figures["rss_mb_at_end"]
    grown = before is not None and after - before > options.max_growth_mb
    return int(figures["errors"] > 0 or figures["slots_in_use_at_end"] != 0 or grown)


if __name__ == "__main__":
    sys.exit(main())
