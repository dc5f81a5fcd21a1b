"""Messages that a machine made up, on every WebSocket: whatever comes, no answer is a fault of the server."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

import sled_tts.server.routes.elevenlabs_key as elevenlabs_key
from tests.server.routes.fakes import RATE, Script, SineService
from tests.server.routes.loopback import Running, closed, connect, eventually, running, send

RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE}
VOICE = {"mode": "id", "id": "default"}
REQUEST = {"model_id": "sonic-3", "transcript": "abc", "voice": VOICE, "output_format": RAW, "context_id": "a"}
TEXT_TO_SPEECH = f"/v1/text-to-speech/default/{{}}?output_format=pcm_{RATE}"
# By path: messages that are right, to be spoilt.
RIGHT: dict[str, list[dict[str, Any]]] = {
    "/v1/stream": [
        {"type": "start", "id": "a", "seed": 1, "cfg_scale": 1.5, "format": "s16le", "sample_rate": 16000},
        {"type": "text", "text": "abc"},
        {"type": "tokens", "tokens": [1, 2, 3]},
        {"type": "flush"},
        {"type": "end"},
        {"type": "cancel"},
        {"type": "keepalive"},
    ],
    TEXT_TO_SPEECH.format("multi-stream-input"): [
        {"text": "abc", "context_id": "a", "flush": True, "voice_settings": {"speed": 1.1}},
        {"text": "", "context_id": "a"},
        {"context_id": "a", "close_context": True},
        {"close_socket": True},
    ],
    TEXT_TO_SPEECH.format("stream-input"): [
        {"text": " ", "voice_settings": {"speed": 0.9}, "generation_config": {"chunk_length_schedule": [50]}},
        {"text": "abc", "try_trigger_generation": True},
        {"text": "", "flush": True},
        {"text": ""},
    ],
    "/tts/websocket": [
        REQUEST | {"continue": True, "flush": True, "max_buffer_delay_ms": 0, "add_timestamps": True},
        REQUEST | {"continue": False, "generation_config": {"speed": 1.5}},
        {"context_id": "a", "cancel": True},
    ],
    f"/v1/speak?encoding=linear16&sample_rate={RATE}": [
        {"type": "Speak", "text": "abc"},
        {"type": "Flush"},
        {"type": "Clear"},
        {"type": "Close"},
    ],
}
ODD: list[Any] = [
    None, True, -1, 0, 2**63, 2**64 - 1, 1e308, -0.5, "", " ", "x" * 200, "\x00", "\u202e", "नमस्ते", "\ud800", [], [[]],
    {}, {"a": {"b": []}}, [None] * 50,
]  # fmt: skip


def _url(server: Running, path: str) -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


def _spoilt(message: dict[str, Any], rng: random.Random) -> str:
    """One field changed, gone, doubled or new; or the text itself damaged."""
    changed, key = dict(message), rng.choice(list(message))
    kind = rng.randrange(5)
    if kind == 0:
        changed[key] = rng.choice(ODD)
    elif kind == 1:
        del changed[key]
    elif kind == 2:
        changed[rng.choice(["", "type", "text", "context_id", "x" * 100])] = rng.choice(ODD)
    elif kind == 3 and isinstance(changed[key], dict):
        changed[key] = dict.fromkeys(changed[key], rng.choice(ODD))
    text = json.dumps(changed)
    if kind == 4:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", "}", '"', "\\", "NaN", "\\ud800", "[" * 2000]) + text[at + 1 :]
    return text


async def _listen(socket: ClientConnection, told: list[str]) -> None:
    try:
        async for frame in socket:
            if isinstance(frame, str):
                told.append(frame)
    except ConnectionClosed:
        pass


@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.split("?")[0].rsplit("/", 1)[-1])
async def test_spoilt_messages_are_refused_and_never_break_anything(path: str) -> None:
    service, rng, codes = SineService(), random.Random(7), set()
    async with running(service, max_stream_chars=150, ws_max_contexts=3) as server:
        for _ in range(25):
            told: list[str] = []
            async with connect(_url(server, path)) as socket:
                listening = asyncio.create_task(_listen(socket, told))
                try:
                    for message in RIGHT[path]:
                        await socket.send(_spoilt(message, rng) if rng.random() < 0.5 else json.dumps(message))
                except ConnectionClosed:
                    pass
                await asyncio.sleep(0.01)
                await socket.close()
                await listening
                codes.add(socket.close_code)
            assert not [text for text in told if "internal_error" in text or "engine_error" in text]
        await eventually(lambda: service.in_use == 0)
    assert codes <= {1000, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1013}
    assert sum(one.value for one in server.app.state.sled.metrics.errors.collect()[0].samples), "nothing was refused"


@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.split("?")[0].rsplit("/", 1)[-1])
async def test_messages_beyond_the_limit_end_the_connection_and_free_its_slot(path: str) -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service, ws_max_message_bytes=2000) as server, connect(_url(server, path)) as socket:
        await send(socket, *RIGHT[path][:2])
        await eventually(lambda: bool(service.utterances))
        await socket.send(json.dumps({"type": "text", "text": "x" * 3000}))
        assert await closed(socket) == 1009
        await eventually(lambda: service.in_use == 0)


@pytest.mark.parametrize("kind", ["multi-stream-input", "stream-input"])
async def test_a_connection_that_brings_no_key_or_nothing_at_all_ends(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elevenlabs_key, "_TIMEOUT_S", 0.2)
    path = TEXT_TO_SPEECH.format(kind)
    async with running(SineService(), api_key=("k",)) as server, connect(_url(server, path)) as socket:
        assert json.loads(await socket.recv())["error"] == "unauthorized"
        assert await closed(socket) == 1008
    limits = f"{path}&inactivity_timeout=0.2"
    async with running(SineService(), ws_unused_timeout_s=0.2) as server, connect(_url(server, limits)) as socket:
        assert json.loads(await socket.recv())["error"] == "idle_timeout"
        assert await closed(socket) == 1008
