"""The `cartesia` package, unmodified."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.interop.conftest import Live
from tests.interop.listening import Wave, assert_spoken, from_int16, paragraph

pytestmark = pytest.mark.interop
cartesia = pytest.importorskip("cartesia", reason="the extra `interop` is not installed")

RATE = 24_000
RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE}
FLOAT = {"container": "raw", "encoding": "pcm_f32le", "sample_rate": 44_100}


def client(live: Live) -> Any:
    return cartesia.AsyncCartesia(api_key="any", base_url=live.url, websocket_base_url=live.ws_url)


async def collect(context: Any) -> tuple[bytes, list[Any]]:
    audio, events = b"", []
    async for event in context.receive():
        events.append(event)
        if event.type == "chunk":
            audio += event.audio
    return audio, events


async def test_a_paragraph_word_by_word_over_a_context(live: Live) -> None:
    text = paragraph(0)
    async with client(live) as api, api.tts.websocket_connect() as connection:
        # The format is given with `push` only: `no_more_inputs` then sends the SDK's own default.
        context = connection.context(voice="default", model_id="sonic-3", add_timestamps=True)
        for word in text.split(" "):
            await context.push(word + " ", output_format=FLOAT, seed=1)
        await context.no_more_inputs()
        audio, events = await collect(context)
    assert events[-1].type == "done", events[-1]
    wave: Wave = np.frombuffer(audio, "<f4")
    assert_spoken(wave, 44_100, text)
    timed = [word for e in events if e.type == "timestamps" for word in e.word_timestamps.words]
    starts = [at for e in events if e.type == "timestamps" for at in e.word_timestamps.start]
    assert timed in ([], text.split(" ")), "every word once, where the checkpoint has timings"
    assert starts == sorted(starts)


async def test_two_contexts_at_once_and_an_interruption(live: Live) -> None:
    text = paragraph(1)
    async with client(live) as api, api.tts.websocket_connect() as connection:
        interrupted = connection.context(voice="default", output_format=RAW)
        whole = connection.context(voice="default", output_format=RAW)
        await interrupted.push(paragraph(2) + " ")
        await whole.push(text, seed=1)
        await whole.no_more_inputs()
        async for event in interrupted.receive():
            assert event.type == "chunk"
            break
        await interrupted.cancel()
        audio, events = await collect(whole)
    assert events[-1].type == "done"
    assert_spoken(from_int16(audio), RATE, text)


async def test_flush_and_errors_reach_the_client(live: Live) -> None:
    async with client(live) as api, api.tts.websocket_connect() as connection:
        context = connection.context(voice="default", output_format=RAW)
        await context.push("Hello there.", flush=True)
        kinds = []
        async for event in context.receive():
            kinds.append(event.type)
            if event.type == "flush_done":
                assert event.flush_id == 1
                await context.no_more_inputs()
        assert kinds[0] == "chunk"
        assert kinds.index("flush_done") < kinds.index("done") == len(kinds) - 1
        wrong = connection.context(voice="nobody at all", output_format=RAW)
        await wrong.push("Hello.")
        _, events = await collect(wrong)
        assert [event.type for event in events] == ["error"]
        assert events[0].error_code == "not_found"


@pytest.mark.parametrize("output_format", [RAW, {**RAW, "container": "wav"}], ids=["raw", "wav"])
async def test_bytes(live: Live, output_format: dict[str, Any]) -> None:
    text = paragraph(0)
    async with client(live) as api:
        answer = await api.tts.generate(
            model_id="sonic-3", transcript=text, voice="default", output_format=output_format, extra_body={"seed": 1}
        )
        data = await answer.read()
    if output_format["container"] == "wav":
        assert data[:4] == b"RIFF"
        data = data[data.index(b"data") + 8 :]
    assert_spoken(from_int16(data), RATE, text)


async def test_events(live: Live) -> None:
    text = paragraph(1)
    async with client(live) as api:
        stream = await api.tts.generate_sse(
            model_id="sonic-3", transcript=text, voice="default", output_format=RAW, extra_body={"seed": 1}
        )
        events = [event async for event in stream]
    assert events[-1].type == "done"
    assert_spoken(from_int16(b"".join(e.audio for e in events if e.type == "chunk")), RATE, text)


async def test_voices_are_listed_page_by_page(live: Live) -> None:
    async with client(live) as api:
        voices = [voice async for voice in api.voices.list(limit=1)]
        assert "kathleen" in [voice.id for voice in voices]
        assert len({voice.id for voice in voices}) == len(voices)
        assert (await api.voices.get(voices[0].id)).name == voices[0].name


async def test_an_unknown_voice_is_not_found(live: Live) -> None:
    async with client(live) as api:
        with pytest.raises(cartesia.NotFoundError):
            await api.tts.generate(model_id="sonic-3", transcript="Hello.", voice="nobody", output_format=RAW)
