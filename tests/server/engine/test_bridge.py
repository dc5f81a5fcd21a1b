"""asyncio on one side, a live engine thread over a real tiny network on the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from sled_tts.server.engine.bridge import EngineBridge
from sled_tts.server.engine.handle import UtteranceHandle
from sled_tts.server.engine.request import (
    AudioChunk,
    Failed,
    Finished,
    FinishReason,
    Float32,
    Mode,
    SynthesisRequest,
)
from sled_tts.server.errors import (
    InputTooLongError,
    InvalidParameterError,
    NotReadyError,
    OverCapacityError,
    ProtocolError,
    UnsupportedError,
)
from tests.fakes import make_engine, tiny_runner, until
from tests.model.factories import token_ids


@pytest.fixture
def bridge() -> Iterator[EngineBridge]:
    runner = tiny_runner(slots=16, stop_bias=float("nan"), stream_n=3, stream_m=4)[0]  # nobody stops
    made = EngineBridge(make_engine(runner, time.perf_counter), max_unread_s=100.0)
    made.start()
    yield made
    made.close()


def request(seed: int = 0, **changes: object) -> SynthesisRequest:
    values: dict[str, object] = {"mode": Mode.STREAMING, "seed": seed, "token_ids": None, "max_frames": 60}
    return SynthesisRequest(f"r{seed}", **(values | changes))  # type: ignore[arg-type]


async def listen(handle: AsyncIterator[object]) -> tuple[Float32, Finished]:
    chunks, end = [], None
    async for event in handle:
        if isinstance(event, AudioChunk):
            chunks.append(event.pcm)
        elif isinstance(event, Failed):
            raise event.error
        elif isinstance(event, Finished):
            assert end is None
            end = event
    assert end is not None
    return np.concatenate(chunks), end


async def speak(bridge: EngineBridge, seed: int, pause_s: float = 0.0) -> tuple[Float32, Finished]:
    ids = token_ids(9 + seed % 4, seed)
    handle = bridge.submit(request(seed))
    task = asyncio.create_task(listen(handle))
    for k, token in enumerate(ids):
        handle.push_tokens([token], final=k == len(ids) - 1)
        await asyncio.sleep(pause_s)
    return await task


async def test_sixteen_live_streams_sound_as_each_does_alone(bridge: EngineBridge) -> None:
    alone = [await speak(bridge, seed) for seed in range(16)]
    together = await asyncio.gather(*(speak(bridge, seed, 0.002 * (seed % 3)) for seed in range(16)))
    for (pcm, end), (want, _) in zip(together, alone, strict=True):
        assert end.frames == 60
        np.testing.assert_array_equal(pcm, want)
    assert bridge.stats().in_use == 0


async def test_audio_comes_before_the_text_has_ended(bridge: EngineBridge) -> None:
    handle = bridge.submit(request())
    handle.push_tokens(token_ids(9, 1)[:6])
    async with asyncio.timeout(10):
        event = await handle.next_event()
    assert isinstance(event, AudioChunk)
    handle.cancel()
    async with asyncio.timeout(10):
        rest = [event async for event in handle]
    assert isinstance(rest[-1], Finished)
    assert rest[-1].reason is FinishReason.CANCELLED


async def test_over_capacity_comes_at_once_and_a_lease_keeps_its_slot(bridge: EngineBridge) -> None:
    leases = [bridge.lease() for _ in range(16)]
    began = time.perf_counter()
    with pytest.raises(OverCapacityError):
        bridge.submit(request())
    assert time.perf_counter() - began < 0.1
    assert bridge.stats().rejected == 1
    for _ in range(2):
        handle = bridge.submit(request(token_ids=tuple(token_ids(5, 1)), max_frames=8), leases[0])
        _, end = await listen(handle)
        assert end.frames == 8
        assert bridge.stats().in_use == 16
    for lease in leases:
        lease.release()
        lease.release()
    await until(lambda: bridge.stats().in_use == 0)


async def test_leaving_the_context_frees_the_slot(bridge: EngineBridge) -> None:
    async with bridge.submit(request(token_ids=tuple(token_ids(5, 1)), max_frames=100)):
        assert bridge.stats().in_use == 1
    await until(lambda: bridge.stats().in_use == 0)


async def test_a_slow_reader_is_paused_and_the_others_are_not(bridge: EngineBridge) -> None:
    bridge.max_unread_s = 0.2
    slow = bridge.submit(request(1, token_ids=tuple(token_ids(5, 1)), max_frames=100))
    quick, end = await listen(bridge.submit(request(1, token_ids=tuple(token_ids(5, 1)), max_frames=100)))
    assert end.frames == 100
    await asyncio.sleep(0.05)
    assert bridge.stats().in_use == 1
    assert 0 < slow.outlet.emitted < 100
    pcm, _ = await listen(slow)
    np.testing.assert_array_equal(pcm, quick)


async def test_what_cannot_be_said_is_refused_by_name(bridge: EngineBridge) -> None:
    with pytest.raises(InvalidParameterError, match="token id 60"):
        bridge.submit(request(token_ids=(0, 60, 2)))
    with pytest.raises(InputTooLongError, match="127"):
        bridge.submit(request(token_ids=(0,) + (5,) * 127))
    with pytest.raises(UnsupportedError, match="streaming one"):
        bridge.submit(request(mode=Mode.OFFLINE, token_ids=(0, 2)))
    handle = bridge.submit(request())
    with pytest.raises(InvalidParameterError):
        handle.push_tokens([-1])
    handle.end_text([0, 2])
    with pytest.raises(ProtocolError):
        handle.push_tokens([5])
    handle.cancel()
    assert bridge.stats().rejected == 0


async def test_closing_ends_every_stream_and_readiness(bridge: EngineBridge) -> None:
    handle: UtteranceHandle = bridge.submit(request())
    assert bridge.alive
    await asyncio.to_thread(bridge.close)
    async with asyncio.timeout(5):
        events = [event async for event in handle]
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, NotReadyError)
    assert not bridge.alive
    with pytest.raises(NotReadyError):
        bridge.submit(request())


def test_blocking_synthesis_needs_no_event_loop(bridge: EngineBridge) -> None:
    events = list(bridge.run(request(token_ids=tuple(token_ids(5, 1)), max_frames=20)))
    assert isinstance(events[-1], Finished)
    assert sum(e.pcm.size for e in events if isinstance(e, AudioChunk)) == 20 * bridge.info.hop
