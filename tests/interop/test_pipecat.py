"""pipecat's speech services, unmodified, in a real pipeline; one paragraph each after an interruption."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.interop.conftest import Live
from tests.interop.listening import assert_spoken, from_int16, paragraph

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("default")]
REASON = "the extra `interop-agents` is not installed"
pytest.importorskip("pipecat", reason=REASON)

from pipecat.frames.frames import (  # type: ignore[import-not-found] # noqa: E402
    ErrorFrame,
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline  # type: ignore[import-not-found] # noqa: E402
from pipecat.pipeline.runner import PipelineRunner  # type: ignore[import-not-found] # noqa: E402
from pipecat.pipeline.task import PipelineParams, PipelineTask  # type: ignore[import-not-found] # noqa: E402
from pipecat.processors.frame_processor import (  # type: ignore[import-not-found] # noqa: E402
    FrameDirection,
    FrameProcessor,
)

RATE = 24_000


class Listener(FrameProcessor):  # type: ignore[misc]
    """Keeps the audio that gets to the end of the pipeline."""

    def __init__(self) -> None:
        super().__init__()
        self.pcm = b""
        self.errors: list[str] = []
        self.heard = asyncio.Event()
        self.stopped = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            assert (frame.sample_rate, frame.num_channels) == (RATE, 1)
            self.pcm += frame.audio
            self.heard.set()
        elif isinstance(frame, TTSStoppedFrame):
            self.stopped.set()
        await self.push_frame(frame, direction)

    def forget(self) -> None:
        self.pcm = b""
        self.heard.clear()
        self.stopped.clear()


class Errors(FrameProcessor):  # type: ignore[misc]
    """Errors travel upstream."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, ErrorFrame):
            self.found.append(frame.error)
        await self.push_frame(frame, direction)


def service(name: str, live: Live) -> Any:
    if name == "openai":
        from pipecat.services.openai.tts import OpenAITTSService  # type: ignore[import-not-found]

        settings = OpenAITTSService.Settings(voice="alloy")
        return OpenAITTSService(api_key="any", base_url=f"{live.url}/v1", settings=settings)
    if name == "elevenlabs":
        from pipecat.services.elevenlabs.tts import ElevenLabsTTSService  # type: ignore[import-not-found]

        settings = ElevenLabsTTSService.Settings(voice="default", model="eleven_turbo_v2_5")
        return ElevenLabsTTSService(api_key="any", url=live.ws_url, settings=settings)
    if name == "cartesia":
        from pipecat.services.cartesia.tts import CartesiaTTSService  # type: ignore[import-not-found]

        settings = CartesiaTTSService.Settings(voice="default", model="sonic-3")
        return CartesiaTTSService(api_key="any", url=f"{live.ws_url}/tts/websocket", settings=settings)
    from pipecat.services.deepgram.tts import DeepgramTTSService  # type: ignore[import-not-found]

    settings = DeepgramTTSService.Settings(voice="aura-2-helena-en")
    return DeepgramTTSService(api_key="any", base_url=live.ws_url, settings=settings)


@pytest.mark.parametrize("name", ["openai", "elevenlabs", "cartesia", "deepgram"])
async def test_a_paragraph_after_an_interruption(name: str, live: Live) -> None:
    listener, errors = Listener(), Errors()
    task = PipelineTask(
        Pipeline([errors, service(name, live), listener]), params=PipelineParams(audio_out_sample_rate=RATE)
    )
    running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    text = paragraph(0)
    try:
        async with asyncio.timeout(90):
            await task.queue_frame(TTSSpeakFrame(paragraph(2)))
            await listener.heard.wait()
            await task.queue_frame(InterruptionFrame())
            await asyncio.sleep(0.5)
            listener.forget()
            await asyncio.sleep(0.7)
            assert listener.pcm == b"", "audio came on after the interruption"
            listener.forget()
            await task.queue_frame(TTSSpeakFrame(text))
            await listener.stopped.wait()
            while size := len(listener.pcm):
                await asyncio.sleep(1.5)
                if len(listener.pcm) == size:
                    break
    finally:
        await task.cancel()
        await running
    assert errors.found == []
    assert_spoken(from_int16(listener.pcm), RATE, text)
