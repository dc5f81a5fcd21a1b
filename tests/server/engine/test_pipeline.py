"""Stop flags a step late and decodes that come later: nobody hears a difference, whatever the device's pace."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import pytest

from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.pipeline import AtOnce, Device, Ready, device_of
from sled_tts.server.engine.request import Failed, Finished, FinishReason, Float32, Mode, SynthesisRequest
from sled_tts.server.engine.work import DecodeWork, RowOutcome, RowWork, RunnerInfo
from tests.fakes import (
    FakeClock,
    FakeRunner,
    Listener,
    admit,
    cancel,
    fake_info,
    make_engine,
    push,
    run_dry,
    tiny_runner,
)
from tests.model.factories import token_ids
from tests.server.engine.test_device_runner import device_runner, speak_all

T = TypeVar("T")


@dataclass
class Late(Generic[T]):
    """A result that takes its time: `done` at a random moment, there when it is waited for."""

    value: T
    rng: random.Random
    waited: bool = False

    @property
    def done(self) -> bool:
        return self.rng.random() < 0.3

    def wait(self) -> T:
        assert not self.waited, "a result was asked for twice"
        self.waited = True
        return self.value


@dataclass
class LateDevice:
    """Any runner as one whose device is behind: outcomes `lag` steps later, decodes whenever they please."""

    inner: Any
    lag: int
    rng: random.Random
    extra: int = 0
    _stopped: set[int] = field(default_factory=set)

    @property
    def info(self) -> RunnerInfo:
        made: RunnerInfo = self.inner.info
        return made

    def launch(self, rows: Sequence[RowWork]) -> Late[list[RowOutcome]]:
        return Late(self.inner.step(rows), self.rng)

    def launch_decode(self, work: Sequence[DecodeWork]) -> Late[list[Float32]]:
        return Late(self.inner.decode(work), self.rng)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_a_runner_that_can_only_wait_is_asked_to() -> None:
    plain = FakeRunner(fake_info(), FakeClock())
    device = device_of(plain)
    assert isinstance(device, AtOnce)
    assert device.lag == 0
    assert not isinstance(plain, Device)
    late = LateDevice(plain, 1, random.Random(0))
    assert device_of(late) is late
    assert Ready(3).done
    assert Ready(3).wait() == 3


@pytest.fixture(scope="module")
def runner() -> Any:
    return tiny_runner(slots=6, stop_bias=2.0, stream_n=3, stream_m=4)[0]


@dataclass(frozen=True)
class Said:
    """All that a listener can tell."""

    pcm: bytes
    reason: FinishReason
    frames: int
    samples: int
    latents: bytes


def said(heard: Listener) -> Said:
    end = heard.end
    assert isinstance(end, Finished)
    kept = b"" if end.latents is None else np.asarray(end.latents).tobytes()
    return Said(heard.pcm.tobytes(), end.reason, end.frames, end.samples, kept)


def request(seed: int) -> SynthesisRequest:
    rng = random.Random(seed)
    return SynthesisRequest(
        f"r{seed}", Mode.STREAMING, seed, rng.choice((1.0, 2.0)), rng.choice((1, 2, 9, 26, None)),
        keep_latents=rng.random() < 0.5,
    )  # fmt: skip


def converse(engine: Engine, seed: int) -> list[Said | None]:
    """Streams come, get their text piece by piece, are slow to read, are cancelled; what each of them said.

    What a stream is to say depends on `seed` alone; when its text and its readers come, on the engine's pace too.
    """
    rng = random.Random(seed)
    waiting, told = list(range(rng.randint(3, 9))), dict[int, Said | None]()
    live = dict[int, tuple[int, Listener, list[int]]]()
    for _ in range(3000):
        if waiting and engine.pool.in_use < 6 and rng.random() < 0.5:
            number = waiting.pop()
            unread = rng.choice((7, 64))
            slot, heard = admit(engine, request(100 * seed + number), eager=rng.random() < 0.7, max_unread=unread)
            live[number] = (slot, heard, token_ids((2, 3, 6, 7, 12)[(seed + number) % 5], number))
        for number, (slot, heard, rest) in list(live.items()):
            if rest and rng.random() < 0.4:
                count = rng.randint(1, 4)
                push(engine, slot, heard, rest[:count], final=not rest[count:])
                del rest[:count]
            if rng.random() < 0.4:
                heard.read_all()
            if rng.random() < 0.002:
                cancel(engine, slot, heard)
            if heard.end is not None:
                told[number] = said(heard) if said(heard).reason is not FinishReason.CANCELLED else None
                del live[number]
        engine.step()
        if not waiting and not live:
            assert engine.pool.in_use == 0
            run_dry(engine)
            return [told[number] for number in sorted(told)]
    raise AssertionError("the streams never ended")


def ticking() -> Any:
    ticks = itertools.count()
    return lambda: next(ticks) * 0.002


@pytest.mark.parametrize("lag", [1, 2])
def test_a_device_behind_its_host_says_what_one_that_is_waited_for_says(runner: Any, lag: int) -> None:
    compared, reasons = 0, set()
    for seed in range(40):
        late = LateDevice(runner, lag, random.Random(seed))
        for got, want in zip(
            converse(make_engine(late, ticking()), seed), converse(make_engine(runner, ticking()), seed), strict=True
        ):
            if got is not None and want is not None:
                assert got == want
                compared += 1
                reasons.add(want.reason)
    assert compared > 150
    assert {FinishReason.STOP, FinishReason.LENGTH} <= reasons


def late_fake(lag: int = 1, **changes: Any) -> tuple[Engine, FakeRunner]:
    inner = FakeRunner(fake_info(**changes), FakeClock())
    return make_engine(LateDevice(inner, lag, random.Random(1)), inner.clock), inner


def whole(number: int, max_frames: int | None = None) -> SynthesisRequest:
    return SynthesisRequest(f"r{number}", Mode.STREAMING, number, 2.0, max_frames, token_ids=(0, 5, 6, 2))


def test_the_step_after_a_stop_was_launched_and_is_not_heard() -> None:
    engine, runner = late_fake()
    slot, heard = admit(engine, whole(0))
    runner.stops[slot] = 12
    run_dry(engine)
    assert isinstance(heard.end, Finished)
    assert (heard.end.frames, heard.end.reason) == (12, FinishReason.STOP)
    np.testing.assert_array_equal(heard.pcm, np.repeat(np.arange(12, dtype=np.float32), 10))
    # Frames 0 to 11, the one that stopped, and one that was under way when that became known.
    assert runner.filled[slot] == 14


def test_a_stream_at_its_limit_is_not_stepped_again() -> None:
    engine, runner = late_fake()
    slot, heard = admit(engine, whole(0, max_frames=9))
    run_dry(engine)
    assert isinstance(heard.end, Finished)
    assert heard.end.frames == runner.filled[slot] == 9


def test_a_slot_is_given_on_while_its_last_stream_is_still_under_way() -> None:
    engine, _ = late_fake(slots=1)
    slot, first = admit(engine, whole(0))
    for _ in range(9):
        engine.step()
    cancel(engine, slot, first)
    engine.step()
    assert isinstance(first.end, Finished)
    assert first.end.reason is FinishReason.CANCELLED
    before = len(first.pcm)
    _, second = admit(engine, whole(1, max_frames=8))
    run_dry(engine)
    assert len(first.pcm) == before
    np.testing.assert_array_equal(second.pcm, np.repeat(np.arange(8, dtype=np.float32), 10))


def test_numbers_that_are_none_end_a_stream_a_step_later() -> None:
    engine, runner = late_fake()
    slot, heard = admit(engine, whole(0))
    _, other = admit(engine, whole(1, max_frames=12))
    for _ in range(3):
        engine.step()
    runner.invalid.add(slot)
    run_dry(engine)
    assert isinstance(heard.end, Failed)
    assert isinstance(other.end, Finished)


def test_a_step_that_fails_after_its_launch_ends_its_streams() -> None:
    engine, _ = late_fake()
    device: Any = engine.device

    class Broken:
        done = True

        def wait(self) -> Any:
            raise RuntimeError("the device is gone")

    _, heard = admit(engine, whole(0))
    engine.step()
    device.__dict__["launch"] = lambda rows: Broken()
    engine.step()
    del device.__dict__["launch"]
    run_dry(engine)
    assert isinstance(heard.end, Failed)
    assert engine.pool.in_use == 0
    assert engine.stats.step_errors == 1
    _, again = admit(engine, whole(1, max_frames=8))
    run_dry(engine)
    assert isinstance(again.end, Finished)


def test_a_decode_that_fails_after_its_launch_ends_its_stream() -> None:
    engine, _ = late_fake()
    device: Any = engine.device

    class Broken:
        done = False

        def wait(self) -> Any:
            raise RuntimeError("the device is gone")

    _, heard = admit(engine, whole(0, max_frames=20))
    device.__dict__["launch_decode"] = lambda work: Broken()
    run_dry(engine)
    assert isinstance(heard.end, Failed)
    assert engine.pool.in_use == 0


def test_reading_stops_flags_late_costs_no_frame_of_text_starvation() -> None:
    """A stream that waits for text is told so once nothing of it is under way."""
    engine, runner = late_fake()
    slot, heard = admit(engine, SynthesisRequest("r", Mode.STREAMING, 0, 2.0, 30))
    push(engine, slot, heard, (0, 5))
    run_dry(engine)
    spoken = runner.filled[slot]
    assert [type(e).__name__ for e in heard.events].count("TextStarved") == 1
    push(engine, slot, heard, (6, 2), final=True)
    run_dry(engine)
    assert isinstance(heard.end, Finished)
    assert heard.end.frames == 30 > spoken > 0


def test_the_runner_for_gpus_says_the_same_a_step_behind() -> None:
    behind, waited = device_runner(lag=1), device_runner(lag=0)
    assert isinstance(behind, Device)
    for number, (got, want) in enumerate(zip(speak_all(behind), speak_all(waited), strict=True)):
        if number in (2, 5):  # cancelled after some steps, of which fewer were over
            assert len(got) <= len(want)
        else:
            assert len(got) == len(want) > 0
        np.testing.assert_allclose(got, want[: len(got)], atol=1e-4)
