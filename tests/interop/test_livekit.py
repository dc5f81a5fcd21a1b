"""LiveKit's speech plugins, unmodified: a paragraph each, whole and as it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.interop.conftest import Live
from tests.interop.listening import assert_spoken, from_int16, paragraph

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("default")]
REASON = "the extra `interop-agents` is not installed"
pytest.importorskip("livekit.agents", reason=REASON)
aiohttp = pytest.importorskip("aiohttp", reason=REASON)

from livekit.plugins import (  # type: ignore[import-not-found] # noqa: E402
    cartesia,
    deepgram,
    elevenlabs,
    openai,
)


@pytest.fixture
async def http() -> AsyncIterator[Any]:
    async with aiohttp.ClientSession() as session:
        yield session


def plugin(name: str, live: Live, http: Any) -> Any:
    if name == "openai":
        return openai.TTS(voice="alloy", model="tts-1", base_url=f"{live.url}/v1", api_key="any")
    if name == "elevenlabs":
        return elevenlabs.TTS(voice_id="default", api_key="any", base_url=f"{live.url}/v1", http_session=http)
    if name == "cartesia":
        return cartesia.TTS(voice="default", api_key="any", base_url=live.url, http_session=http)
    return deepgram.TTS(api_key="any", base_url=f"{live.url}/v1/speak", http_session=http)


async def collect(stream: Any) -> tuple[bytes, int]:
    pcm, rate = b"", 0
    async with asyncio.timeout(90):
        async for event in stream:
            pcm += bytes(event.frame.data)
            rate = event.frame.sample_rate
    return pcm, rate


@pytest.mark.parametrize("name", ["openai", "elevenlabs", "cartesia", "deepgram"])
async def test_a_whole_paragraph(name: str, live: Live, http: Any) -> None:
    text = paragraph(0)
    tts = plugin(name, live, http)
    async with tts.synthesize(text) as stream:
        pcm, rate = await collect(stream)
    await tts.aclose()
    assert_spoken(from_int16(pcm), rate, text)


@pytest.mark.parametrize("name", ["elevenlabs", "cartesia", "deepgram"])
async def test_a_paragraph_as_it_is_written_after_an_interruption(name: str, live: Live, http: Any) -> None:
    text = paragraph(0)
    tts = plugin(name, live, http)
    async with tts.stream() as interrupted:
        interrupted.push_text(paragraph(2))
        interrupted.flush()
        async with asyncio.timeout(60):
            assert (await anext(aiter(interrupted))).frame.data
    async with tts.stream() as stream:
        for word in text.split(" "):
            stream.push_text(word + " ")
        stream.end_input()
        pcm, rate = await collect(stream)
    await tts.aclose()
    assert_spoken(from_int16(pcm), rate, text)
