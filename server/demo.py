"""One sentence through the real WebSocket of a running server into a wav file."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from sled_tts.server.audio.wav import wav_header
from sled_tts.server.errors import EngineError

DEMO_TEXT = "Hello, I speak while you are still writing."
_WORD_GAP_S = 0.05


@dataclass(frozen=True)
class Spoken:
    """What the demo measured, at the client: `ttfa_s` from the first word sent to the first byte of audio."""

    path: Path
    seconds: float
    ttfa_s: float
    rtf: float | None
    before_last_word: bool
    finish_reason: str


async def speak_demo(url: str, key: str | None, path: Path, text: str = DEMO_TEXT) -> Spoken:
    """Send `text` word by word to `url` (ws://...) and write the answer to `path`.

    Raises EngineError when the server answers with an error or says nothing, OSError when it cannot be reached or
    the file cannot be written.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with connect(url, additional_headers=headers, max_size=None, compression=None) as socket:
        await socket.send(json.dumps({"type": "start", "seed": 1}))
        started = await _next_json(socket)
        writing = asyncio.create_task(_write(socket, text))
        try:
            pcm, first_at, done = await _listen(socket)
        finally:
            first_word_at, last_word_at = await writing
    if first_at is None:
        raise EngineError("the server ended the demo sentence without any audio")
    rate = int(started["sample_rate"])
    await asyncio.to_thread(path.write_bytes, wav_header(rate, data_bytes=len(pcm)) + pcm)
    return Spoken(
        path=path,
        seconds=len(pcm) / 2 / rate,
        ttfa_s=first_at - first_word_at,
        rtf=done["rtf"],
        before_last_word=first_at < last_word_at,
        finish_reason=str(done["finish_reason"]),
    )


async def _write(socket: ClientConnection, text: str) -> tuple[float, float]:
    """Words as a fast writer would send them; when the first and the last one went out."""
    first = last = time.perf_counter()
    for word in text.split(" "):
        last = time.perf_counter()
        await socket.send(json.dumps({"type": "text", "text": word + " "}))
        await asyncio.sleep(_WORD_GAP_S)
    await socket.send(json.dumps({"type": "end"}))
    return first, last


async def _listen(socket: ClientConnection) -> tuple[bytes, float | None, dict[str, Any]]:
    pcm, first_at = bytearray(), None
    while True:
        frame = await socket.recv()
        if isinstance(frame, bytes):
            first_at = first_at or time.perf_counter()
            pcm += frame
            continue
        message = _checked(json.loads(frame))
        if message["type"] == "done":
            return bytes(pcm), first_at, message


async def _next_json(socket: ClientConnection) -> dict[str, Any]:
    return _checked(json.loads(await socket.recv()))


def _checked(message: dict[str, Any]) -> dict[str, Any]:
    if message["type"] == "error":
        raise EngineError(f"the server answered the demo with an error: {message['error']['message']}")
    return message
