"""The `wyoming` package's client, as Home Assistant uses it."""

from __future__ import annotations

import warnings

import pytest

from tests.interop.conftest import Live
from tests.interop.listening import assert_spoken, from_int16, paragraph

pytestmark = pytest.mark.interop
pytest.importorskip("wyoming", reason="the extra `interop` is not installed")

with warnings.catch_warnings():
    # It prefers `audioop` as long as Python has it.
    warnings.simplefilter("ignore", DeprecationWarning)
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.error import Error
    from wyoming.info import Describe, Info
    from wyoming.tts import (
        Synthesize,
        SynthesizeChunk,
        SynthesizeStart,
        SynthesizeStop,
        SynthesizeStopped,
        SynthesizeVoice,
    )


async def hear(client: AsyncTcpClient, last: str) -> tuple[bytes, int, list[str]]:
    """Audio, its rate, and the kinds of all events up to `last`."""
    audio, rate, kinds = b"", 0, []
    while not kinds or kinds[-1] != last:
        event = await client.read_event()
        assert event is not None
        assert not Error.is_type(event.type), event.data
        kinds.append(event.type)
        if AudioStart.is_type(event.type):
            rate = AudioStart.from_event(event).rate
        elif AudioChunk.is_type(event.type):
            chunk = AudioChunk.from_event(event)
            assert (chunk.rate, chunk.width, chunk.channels) == (rate, 2, 1)
            audio += chunk.audio
    return audio, rate, kinds


async def test_it_is_found_and_speaks(live: Live) -> None:
    text = paragraph(0)
    async with AsyncTcpClient("127.0.0.1", live.wyoming_port) as client:
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None
        (program,) = Info.from_event(event).tts
        assert program.supports_synthesize_streaming
        voice = SynthesizeVoice(name=program.voices[0].name)
        await client.write_event(Synthesize(text=text, voice=voice).event())
        audio, rate, _ = await hear(client, AudioStop(timestamp=None).event().type)
    assert_spoken(from_int16(audio), rate, text)


async def test_text_in_chunks(live: Live) -> None:
    text = paragraph(1)
    async with AsyncTcpClient("127.0.0.1", live.wyoming_port) as client:
        await client.write_event(SynthesizeStart().event())
        for word in text.split(" "):
            await client.write_event(SynthesizeChunk(text=word + " ").event())
        # Home Assistant sends the whole text too, for servers that cannot stream.
        await client.write_event(Synthesize(text=text).event())
        await client.write_event(SynthesizeStop().event())
        audio, rate, kinds = await hear(client, SynthesizeStopped().event().type)
    assert kinds.count("audio-start") == kinds.count("audio-stop") == 1
    assert_spoken(from_int16(audio), rate, text)
