"""How long an interruption takes: from the frame that asks for it to the last byte of the utterance.

    sled-tts bench interruption --rounds 20

Every protocol is interrupted while it speaks, `--rounds` times at random moments: `cancel` (native, Cartesia),
`close_context` (ElevenLabs), `Clear` (Deepgram), and by leaving (`stream-input`, Wyoming, which have no such message).
Others speak meanwhile: `--beside` native streams. Milliseconds are the server's own, out of `/metrics`; beside them
how long the client still received audio after it had sent the frame. Without `--url` a server of its own is started.
The last line is JSON. Exit code 1 when an interruption took more than `--limit-ms`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from sled_tts.bench.listeners import Target, over_websocket, sentence
from sled_tts.bench.serving import client_machine, started_server

_WORDS = 400
# Between two rounds: the text of the next one is work too.
_QUIET_S = 0.5
_RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000}


@dataclass(frozen=True)
class Interruption:
    """`route` as the server's metrics name it; `opening` gets the text, `frame` interrupts (None: by leaving)."""

    name: str
    route: str
    path: str
    opening: tuple[dict[str, Any], ...]
    frame: dict[str, Any] | None

    def messages(self, text: str) -> list[str]:
        """The opening with its text filled in."""
        return [json.dumps(message).replace("TEXT", text) for message in self.opening]


_CARTESIA = {"model_id": "sonic", "transcript": "TEXT", "voice": "default", "output_format": _RAW, "context_id": "a"}
PROTOCOLS = (
    Interruption(
        "native cancel", "stream", "/v1/stream", ({"type": "start"}, {"type": "text", "text": "TEXT"}),
        {"type": "cancel"},
    ),
    Interruption(
        "elevenlabs close_context", "elevenlabs",
        "/v1/text-to-speech/default/multi-stream-input?output_format=pcm_16000",
        ({"text": "TEXT", "context_id": "a"},), {"context_id": "a", "close_context": True},
    ),
    Interruption(
        "elevenlabs stream-input, left", "elevenlabs",
        "/v1/text-to-speech/default/stream-input?output_format=pcm_16000", ({"text": "TEXT"},), None,
    ),
    Interruption("cartesia cancel", "cartesia", "/tts/websocket", (_CARTESIA,), {"context_id": "a", "cancel": True}),
    Interruption(
        "deepgram Clear", "deepgram", "/v1/speak?encoding=linear16&sample_rate=16000",
        ({"type": "Speak", "text": "TEXT"},), {"type": "Clear"},
    ),
)  # fmt: skip


def is_audio(frame: str | bytes) -> bool:
    """Whether a frame carries sound."""
    return isinstance(frame, bytes) or bool(re.search(r'"(audio|data)":\s*"[^"]', frame))


async def interrupt(target: Target, how: Interruption, text: str, after: int) -> float:
    """Let it speak for `after` frames of audio, interrupt, and listen on; ms until the last audio, 0 for none."""
    url = target.url.replace("http", "ws", 1).rstrip("/") + how.path
    async with connect(url, additional_headers=target.headers, compression=None, max_size=None) as wire:
        for message in how.messages(text):
            await wire.send(message)
        heard = 0
        while heard < after:
            heard += is_audio(await wire.recv())
        if how.frame is None:
            await wire.close()
            await asyncio.sleep(_QUIET_S)
            return 0.0
        sent_at = last_at = time.perf_counter()
        await wire.send(json.dumps(how.frame))
        async for at in _audio_until_quiet(wire):
            last_at = at
    return 1000 * (last_at - sent_at)


async def _audio_until_quiet(wire: ClientConnection) -> AsyncIterator[float]:
    """When audio still came, until nothing more comes."""
    while True:
        try:
            frame = await asyncio.wait_for(wire.recv(), _QUIET_S)
        except TimeoutError:
            return
        if is_audio(frame):
            yield time.perf_counter()


async def leave_wyoming(host: str, port: int, text: str, after: int) -> float:
    """As `interrupt`, by closing the connection."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(json.dumps({"type": "synthesize", "data": {"text": text}}).encode() + b"\n")
    for _ in range(after + 1):
        head = json.loads(await reader.readline())
        await reader.readexactly(head.get("data_length", 0) + head.get("payload_length", 0))
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(_QUIET_S)
    return 0.0


async def histogram(target: Target, route: str) -> dict[str, float]:
    """The server's `sled_tts_interruption_seconds` of a route: `count`, `sum`, and counts by upper bound."""
    async with target.http() as http:
        text = (await http.get("/metrics")).text
    found = {}
    for kind, labels, value in re.findall(r"^sled_tts_interruption_seconds_(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        if f'route="{route}"' in labels:
            bound = re.search(r'le="([^"]+)"', labels)
            found[bound[1] if bound else kind] = float(value)
    return found


def summary(before: dict[str, float], after: dict[str, float], late_ms: list[float]) -> dict[str, Any]:
    """`most_ms` is the upper bound of the slowest one's bucket, None beyond the last bound."""
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    count = grown.get("count", 0.0)
    bounds = sorted((float(name), seen) for name, seen in grown.items() if re.fullmatch(r"[\d.]+", name))
    most = next((bound for bound, seen in bounds if seen >= count), None)
    return {
        "count": int(count),
        "mean_ms": round(1000 * grown.get("sum", 0.0) / count, 3) if count else None,
        "most_ms": None if most is None else 1000 * most,
        "client_last_audio_ms": round(max(late_ms, default=0.0), 2),
    }


async def measure(target: Target, options: argparse.Namespace, wyoming: tuple[str, int] | None) -> dict[str, Any]:
    """Every protocol's figures, by name."""
    rng, rows = random.Random(options.seed), {}
    ways: list[tuple[str, str, Callable[[str, int], Awaitable[float]]]] = [
        (how.name, how.route, partial(interrupt, target, how)) for how in PROTOCOLS
    ]
    if wyoming is not None:
        ways.append(("wyoming, left", "wyoming", partial(leave_wyoming, *wyoming)))
    for name, route, once in ways:
        before = await histogram(target, route)
        late = [
            await once(" ".join(sentence(options.seed + number, _WORDS)), rng.randint(1, 6))
            for number in range(options.rounds)
        ]
        rows[name] = summary(before, await _settled(target, route, before, options.rounds), late)
    return rows


async def _settled(target: Target, route: str, before: dict[str, float], rounds: int) -> dict[str, float]:
    """The histogram once it holds every round; the server notices a client that has left by itself."""
    for _ in range(100):
        after = await histogram(target, route)
        if after.get("count", 0.0) - before.get("count", 0.0) >= rounds:
            break
        await asyncio.sleep(0.1)
    return after


@asynccontextmanager
async def company(target: Target, streams: int, seed: int) -> AsyncIterator[None]:
    """So many native streams that speak without end."""

    async def speak(number: int) -> None:
        for turn in range(10**6):
            await over_websocket(target, sentence(seed + number + 1000 * turn, 60), seed, 0.0)

    tasks = [asyncio.create_task(speak(number)) for number in range(streams)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run(options: argparse.Namespace, wyoming: tuple[str, int] | None) -> dict[str, Any]:
    target = Target(options.url, options.api_key)
    async with company(target, options.beside, options.seed):
        return await measure(target, options, wyoming)


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--url", help="A running server.")
    made.add_argument("--wyoming", metavar="HOST:PORT", help="Its Wyoming listener.")
    made.add_argument("--api-key", default=os.environ.get("SLED_TTS_CLIENT_KEY"))
    made.add_argument("--model", default="built-in")
    made.add_argument("--rounds", type=int, default=20)
    made.add_argument("--beside", type=int, default=0)
    made.add_argument("--limit-ms", type=float, default=50.0)
    made.add_argument("--seed", type=int, default=1)
    options = made.parse_args()
    wyoming = None
    if options.wyoming:
        host, _, port = options.wyoming.rpartition(":")
        wyoming = host, int(port)
    about = client_machine() | {name: getattr(options, name) for name in ("rounds", "beside", "seed")}
    if options.url:
        rows = asyncio.run(run(options, wyoming))
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            wyoming = "127.0.0.1", probe.getsockname()[1]
        os.environ["SLED_TTS_WYOMING_PORT"] = str(wyoming[1])
        with started_server(options.model, options.beside + 2) as server:
            options.url = server.url
            rows = asyncio.run(run(options, wyoming))
    for name, row in rows.items():
        print(f"{name:32} {row}")
    print(json.dumps({"about": about, "results": rows}))
    slow = [row for row in rows.values() if row["most_ms"] is None or row["most_ms"] > options.limit_ms]
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
