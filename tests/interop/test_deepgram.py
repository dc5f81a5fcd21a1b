"""The `deepgram-sdk` package, unmodified."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.interop.conftest import Live
from tests.interop.listening import assert_spoken, from_int16, paragraph
from tests.server.audio.decoding import hear

pytestmark = [
    pytest.mark.interop,
    # The SDK connects through parts of `websockets` that have been renamed since.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
deepgram = pytest.importorskip("deepgram", reason="the extra `interop` is not installed")

RATE = 16_000


@asynccontextmanager
async def client(live: Live) -> AsyncIterator[Any]:
    from deepgram.environment import DeepgramClientEnvironment

    environment = DeepgramClientEnvironment(
        base=live.url, production=live.ws_url, agent=live.ws_url, agent_rest=live.url
    )
    # The SDK never closes a connection pool of its own.
    async with httpx.AsyncClient(timeout=60) as pool:
        yield deepgram.AsyncDeepgramClient(api_key="any", environment=environment, httpx_client=pool)


@asynccontextmanager
async def connect(live: Live, **options: Any) -> AsyncIterator[Any]:
    seeded = {"additional_query_parameters": {"seed": 1}}
    options = {"encoding": "linear16", "sample_rate": RATE, "request_options": seeded, **options}
    async with client(live) as api, api.speak.v1.connect(**options) as socket:
        yield socket


async def until(socket: Any, kind: str) -> tuple[bytes, list[Any]]:
    audio, messages = b"", []
    while not messages or messages[-1].type != kind:
        message = await socket.recv()
        if isinstance(message, bytes):
            audio += message
        else:
            messages.append(message)
    return audio, messages


async def test_paragraphs_word_by_word_in_turns(live: Live) -> None:
    from deepgram.speak.v1.types import SpeakV1Text

    async with connect(live) as socket:
        for number in (0, 1):
            text = paragraph(number)
            for word in text.split(" "):
                await socket.send_text(SpeakV1Text(text=word + " "))
            await socket.send_flush()
            audio, messages = await until(socket, "Flushed")
            assert messages[-1].sequence_id == number
            assert_spoken(from_int16(audio), RATE, text)
        await socket.send_close()


async def test_an_interruption_and_what_follows(live: Live) -> None:
    from deepgram.speak.v1.types import SpeakV1Text

    async with connect(live, model="aura-2-thalia-en") as socket:
        metadata = await socket.recv()
        assert metadata.model_name == "aura-2-thalia-en"
        await socket.send_text(SpeakV1Text(text=paragraph(2)))
        while not isinstance(await socket.recv(), bytes):
            pass
        await socket.send_clear()
        await until(socket, "Cleared")
        text = paragraph(1)
        await socket.send_text(SpeakV1Text(text=text))
        await socket.send_flush()
        audio, messages = await until(socket, "Flushed")
        assert [message.type for message in messages] == ["Flushed"]
        assert_spoken(from_int16(audio), RATE, text)


@pytest.mark.parametrize(
    ("options", "magic"),
    [
        ({"encoding": "linear16", "container": "wav", "sample_rate": 24_000}, b"RIFF"),
        ({"encoding": "mp3"}, b"ID3"),
        ({"encoding": "flac", "sample_rate": 48_000}, b"fLaC"),
        ({"encoding": "opus", "container": "ogg"}, b"OggS"),
    ],
)
async def test_rest(live: Live, options: dict[str, Any], magic: bytes) -> None:
    text = paragraph(0)
    seeded = {"additional_query_parameters": {"seed": 1}}
    async with client(live) as api:
        answer = api.speak.v1.audio.generate(text=text, request_options=seeded, **options)
        pieces = [piece async for piece in answer]
    data = b"".join(pieces)
    assert data.startswith(magic)
    heard = hear(data)
    assert_spoken(heard.pcm, heard.rate, text)


async def test_a_bad_request_is_an_api_error(live: Live) -> None:
    from deepgram.core.api_error import ApiError

    with pytest.raises(ApiError) as refused:
        async with connect(live, model="nobody"):
            pass
    assert refused.value.status_code == 404
