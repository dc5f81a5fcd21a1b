"""Clients that speak to a server and note what they hear and when: the native WebSocket and REST.

Needs only the client dependencies.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
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
_REST_RATE = 24_000


@dataclass
class Heard:
    """One client's view. Times in seconds; `arrivals` holds (time since the first word, samples) of each chunk.

    `left`: the client hung up on purpose before the end.
    """

    seed: int
    rate: int = 0
    first_word_at: float = 0.0
    last_word_at: float = 0.0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    pcm: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None
    error: str | None = None
    left: bool = False

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
    def audio_s(self) -> float:
        return len(self.pcm) / 2 / self.rate if self.rate else 0.0

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

    def heard_part(self, part: bytes) -> None:
        self.arrivals.append((time.perf_counter() - self.first_word_at, len(part) // 2))
        self.pcm += part


@dataclass(frozen=True)
class Target:
    """A server, `http://host:port`, and a key if it wants one."""

    url: str
    api_key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    @property
    def stream_url(self) -> str:
        return self.url.replace("http", "ws", 1).rstrip("/") + "/v1/stream"

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=300)


async def over_websocket(
    target: Target, words: list[str], seed: int, gap_s: float, *, leave_after: int | None = None
) -> Heard:
    """One utterance, one word every `gap_s` seconds, all at once when that is 0.

    `leave_after`: cut the connection without a word once so many chunks have come.
    """
    heard = Heard(seed)
    try:
        async with connect(
            target.stream_url, additional_headers=target.headers, compression=None, max_size=None, open_timeout=60
        ) as socket:
            await socket.send(json.dumps({"type": "start", "seed": seed}))
            writing = asyncio.create_task(_write(socket, words, gap_s, heard))
            try:
                await _listen(socket, heard, leave_after)
            finally:
                writing.cancel()
                await asyncio.wait({writing})
    except (OSError, websockets.WebSocketException) as error:
        if not heard.left:
            heard.error = f"{type(error).__name__}: {error}"
    return heard


async def _write(socket: ClientConnection, words: list[str], gap_s: float, heard: Heard) -> None:
    heard.first_word_at = time.perf_counter()
    parts = [word + " " for word in words] if gap_s else [" ".join(words)]
    for k, part in enumerate(parts):
        # Against the clock, not after the last send: a slow event loop must not slow the writer down.
        await asyncio.sleep(max(0.0, heard.first_word_at + k * gap_s - time.perf_counter()))
        heard.last_word_at = time.perf_counter()
        await socket.send(json.dumps({"type": "text", "text": part}))
    await socket.send(json.dumps({"type": "end"}))


async def _listen(socket: ClientConnection, heard: Heard, leave_after: int | None) -> None:
    async for frame in socket:
        if isinstance(frame, bytes):
            heard.heard_part(frame)
            continue
        message = json.loads(frame)
        if message["type"] == "started":
            heard.rate = message["sample_rate"]
            if leave_after == 0:
                break
        elif message["type"] == "error":
            heard.error = f"{message['error']['code']}: {message['error']['message']}"
        elif message["type"] == "done":
            heard.done = message
            return
        if leave_after is not None and len(heard.arrivals) >= leave_after > 0:
            break
    else:
        if heard.error is None:
            heard.error = "closed without an end"
        return
    heard.left = True
    socket.transport.abort()


async def over_rest(target: Target, words: list[str], seed: int, *, leave_after: int | None = None) -> Heard:
    """The whole text in one request, the audio as it is generated. `leave_after` as in `over_websocket`."""
    heard = Heard(seed, rate=_REST_RATE)
    body = {"input": " ".join(words), "response_format": "pcm", "sample_rate": _REST_RATE, "seed": seed}
    try:
        async with target.http() as http:
            heard.first_word_at = heard.last_word_at = time.perf_counter()
            async with http.stream("POST", "/v1/audio/speech", json=body) as reply:
                if reply.status_code != 200:
                    heard.error = f"{reply.status_code}: {(await reply.aread()).decode(errors='replace')[:200]}"
                    return heard
                held = b""
                async for part in reply.aiter_raw():
                    held += part
                    whole = len(held) // 2 * 2
                    heard.heard_part(held[:whole])
                    held = held[whole:]
                    if leave_after is not None and len(heard.arrivals) > leave_after:
                        heard.left = True
                        return heard
            heard.done = {"finish_reason": "complete", "rtf": None}
    except httpx.HTTPError as error:
        heard.error = f"{type(error).__name__}: {error}"
    return heard


def percentiles(values: list[float]) -> dict[str, float] | None:
    """p50, p95, p99 and the largest, in milliseconds."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    figures = {"p50": p50, "p95": p95, "p99": p99, "max": max(values)}
    return {name: round(1000 * float(value), 1) for name, value in figures.items()}


def sentence(seed: int, words: int) -> list[str]:
    """A text that no other seed has."""
    chosen = random.Random(seed).choices(_VOCABULARY.split(), k=max(2, words))
    return [chosen[0].capitalize(), *chosen[1:-1], chosen[-1] + "."]
