"""The native WebSocket with a real engine and a tiny checkpoint, over a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sled_tts.model.tokenizer import Tokenizer
from tests.server.routes.conftest import RATE, Load
from tests.server.routes.loopback import (
    Heard,
    Running,
    closed,
    connect,
    eventually,
    hear,
    running,
    send,
    speak,
)

WORDS = [f"{word} " for word in ["some", "words", "to", "learn", "from", "some", "more", "words", "that", "follow"]]
LIMIT_S = 1.5


async def _client(server: Running, seed: int, gap_s: float = 0.0, **start: Any) -> Heard:
    async with connect(server.ws_url) as socket:
        return await speak(socket, WORDS, gap_s, seed=seed, max_seconds=LIMIT_S, **start)


def _in_use(server: Running) -> int:
    return sum(one.in_use for one in server.app.state.sled.service.engine_stats().values())


async def test_audio_comes_before_the_last_word_is_sent(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder)) as server, connect(server.ws_url) as socket:
        await send(socket, {"type": "start", "seed": 1})
        for word in WORDS[:-1]:
            await send(socket, {"type": "text", "text": word})
            await asyncio.sleep(0.05)
        heard = await hear(socket, until=("chunk",))
        assert heard.of("chunk")
        await send(socket, {"type": "text", "text": WORDS[-1]}, {"type": "cancel"})
        assert (await hear(socket)).messages[-1]["finish_reason"] == "cancelled"
        assert await _freed(server)


async def _freed(server: Running) -> bool:
    await eventually(lambda: _in_use(server) == 0)
    return True


async def test_an_utterance_reports_what_it_did(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder)) as server:
        heard = await _client(server, 3, id="mine")
    started, done = heard.messages[0], heard.messages[-1]
    assert (started["model"], started["kind"], started["by_sentence"]) == ("tiny-streaming", "streaming", False)
    assert (started["n"], started["m"], started["sample_rate"], started["id"]) == (3, 4, RATE, "mine")
    assert done["finish_reason"] == "length"
    assert done["samples"] == len(heard.samples) == done["frames"] * 320
    assert done["duration_s"] == pytest.approx(len(heard.samples) / RATE, abs=1e-3)
    assert done["duration_s"] == pytest.approx(LIMIT_S, abs=0.02)
    assert done["ttfa_s"] > 0
    assert done["rtf"] > 0
    sequence = [message["sequence"] for message in heard.of("chunk")]
    assert sequence == list(range(len(sequence)))
    assert len(sequence) > 1


async def test_sixteen_at_once_hear_what_each_hears_alone(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder, slots=16)) as server:
        alone = [await _client(server, seed) for seed in range(16)]
        together = await asyncio.gather(*(_client(server, seed, gap_s=0.005) for seed in range(16)))
    assert len({heard.pcm for heard in alone}) == 16
    for one, other in zip(alone, together, strict=True):
        assert one.pcm
        assert one.pcm == other.pcm


async def test_killing_eight_changes_nothing_for_the_rest(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder, slots=16)) as server:
        alone = [await _client(server, seed) for seed in range(8)]
        victims = [await connect(server.ws_url) for _ in range(8)]
        for seed, socket in enumerate(victims):
            await send(socket, {"type": "start", "seed": 100 + seed}, {"type": "text", "text": "".join(WORDS)})
        staying = [asyncio.create_task(_client(server, seed, gap_s=0.02)) for seed in range(8)]
        for socket in victims:
            await hear(socket, until=("chunk",))
        for socket in victims:
            socket.transport.abort()
        heard = await asyncio.gather(*staying)
        assert [one.pcm for one in heard] == [one.pcm for one in alone]
        assert await _freed(server)


async def test_the_seventeenth_is_refused_at_once(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder, slots=2)) as server:
        async with connect(server.ws_url) as one, connect(server.ws_url) as two, connect(server.ws_url) as three:
            for socket in (one, two):
                await send(socket, {"type": "start"})
                await hear(socket, until=("started",))
            async with asyncio.timeout(1):
                await send(three, {"type": "start"})
                assert (await hear(three)).messages[-1]["error"]["code"] == "over_capacity"
            assert await closed(three) == 1013
        assert await _freed(server)


async def test_tokens_are_worth_their_text(load: Load, streaming_folder: Path) -> None:
    ids = Tokenizer.load(streaming_folder).encode("".join(WORDS).strip())[1:-1]
    async with running(load(streaming_folder)) as server:
        text = await _client(server, 5)
        async with connect(server.ws_url) as socket:
            await send(socket, {"type": "start", "seed": 5, "max_seconds": LIMIT_S})
            await send(socket, {"type": "tokens", "tokens": ids[:4]}, {"type": "tokens", "tokens": ids[4:]})
            await send(socket, {"type": "end"})
            tokens = await hear(socket)
    assert tokens.pcm == text.pcm


async def test_a_token_that_the_model_does_not_have(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder)) as server, connect(server.ws_url) as socket:
        await send(socket, {"type": "start"}, {"type": "tokens", "tokens": [100_000]})
        error = (await hear(socket)).messages[-1]["error"]
        assert (error["code"], error["param"]) == ("invalid_parameter", "tokens")
        assert await closed(socket) == 1007
        assert await _freed(server)


@pytest.mark.parametrize(
    ("text", "code"), [("", "empty_input"), ("🙂 …", "empty_input"), ("привет", "unsupported_text")]
)
async def test_an_utterance_with_nothing_to_say_is_answered_and_the_next_one_spoken(
    load: Load, streaming_folder: Path, text: str, code: str
) -> None:
    async with running(load(streaming_folder, slots=1)) as server, connect(server.ws_url) as socket:
        for name in ("first", "second"):
            await send(socket, {"type": "start", "id": name}, {"type": "text", "text": text}, {"type": "end"})
            heard = await hear(socket)
            assert heard.messages[-1]["type"] == "error"
            assert (heard.messages[-1]["id"], heard.messages[-1]["error"]["code"]) == (name, code)
            assert not heard.pcm
        await send(socket, {"type": "start", "id": "third", "max_seconds": LIMIT_S})
        await send(socket, {"type": "text", "text": "some words"}, {"type": "end"})
        spoken = await hear(socket)
        assert spoken.messages[-1]["type"] == "done"
        assert spoken.pcm


async def test_an_offline_checkpoint_speaks_by_sentence_and_says_so(load: Load, offline_folder: Path) -> None:
    async with running(load(offline_folder)) as server, connect(server.ws_url) as socket:
        await send(socket, {"type": "start", "seed": 2, "max_seconds": 0.5})
        assert (await hear(socket, until=("started",))).messages[-1]["by_sentence"] is True
        await send(socket, {"type": "text", "text": "Some words. More wo"})
        first = await hear(socket, until=("chunk",))
        assert first.of("chunk")
        await send(socket, {"type": "text", "text": "rds to learn."}, {"type": "end"})
        rest = await hear(socket)
        assert rest.messages[-1]["samples"] >= 2 * 0.2 * RATE
        assert len(rest.of("done")) == 1


async def test_streaming_is_preferred_for_sockets_and_any_model_can_be_named(
    load: Load, streaming_folder: Path, offline_folder: Path
) -> None:
    async with running(load(offline_folder, streaming_folder)) as server:
        assert (await _client(server, 1)).messages[0]["model"] == "tiny-streaming"
        named = await _client(server, 1, model="tiny-offline")
        assert named.messages[0]["model"] == "tiny-offline"
