"""The loop with a runner that only counts and a clock that moves when told to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.request import (
    AudioChunk,
    Failed,
    Finished,
    FinishReason,
    Mode,
    Prompt,
    SynthesisRequest,
    TextStarved,
)
from sled_tts.server.engine.scheduler import Policy
from sled_tts.server.engine.work import LAST_LATENT, prompt_column
from sled_tts.server.errors import EmptyInputError, EngineError, OverCapacityError, SlowReaderError
from tests.fakes import FakeClock, FakeRunner, admit, cancel, fake_info, make_engine, push, run_dry


def build(
    step_s: float = 0.01, info: dict[str, Any] | None = None, **changes: Any
) -> tuple[Engine, FakeRunner, FakeClock]:
    clock = FakeClock()
    runner = FakeRunner(fake_info(**(info or {})), clock, step_s)
    return make_engine(runner, clock, **changes), runner, clock


def request(name: str = "r", **changes: Any) -> SynthesisRequest:
    values: dict[str, Any] = {"mode": Mode.STREAMING, "seed": 0, "token_ids": (0, 5, 6, 7, 2), "max_frames": 30}
    return SynthesisRequest(name, **(values | changes))


def test_columns_follow_the_pacing_and_the_guidance_row_never_sees_text() -> None:
    engine, runner, _ = build()
    runner.stops[0] = 8
    admit(engine, request())
    run_dry(engine)
    told = [rows[0].conditional for rows in runner.steps]
    free = [rows[0].unconditional for rows in runner.steps]
    last = (LAST_LATENT,)
    assert told[:7] == [(0, 5), last, last, (LAST_LATENT, 6, 7), last, last, (LAST_LATENT, 2)]
    assert told[7:] == [last, last]
    assert free == [(2,)] + [last] * 8


def test_prompt_frames_stand_in_for_the_first_frames_in_both_orders() -> None:
    prompt = Prompt(np.zeros((4, 10), np.float32))
    engine, runner, _ = build()
    admit(engine, request(prompt=prompt))
    engine.step()
    p = [prompt_column(k) for k in range(4)]
    assert runner.steps[0][0].conditional == (0, 5, p[0], p[1], p[2], 6, 7, p[3])
    assert runner.steps[0][0].unconditional == (2, *p)
    engine, runner, _ = build(info={"n": None, "m": None})
    admit(engine, request(mode=Mode.OFFLINE, prompt=prompt))
    engine.step()
    assert runner.steps[0][0].conditional == (0, 5, 6, 7, 2, *p)


def test_a_stop_while_text_is_still_coming_drops_nothing() -> None:
    engine, runner, _ = build()
    runner.always_stop = True
    _, heard = admit(engine, request(token_ids=(0, 5, 6, 7, 8, 2)))
    run_dry(engine)
    read = [c for rows in runner.steps for c in rows[0].conditional if c >= 0]
    assert read == [0, 5, 6, 7, 8, 2]
    assert isinstance(heard.end, Finished)
    # Two full turns of three frames, then the stop of the last turn at once: its frame is not spoken.
    assert (heard.end.reason, heard.end.frames) == (FinishReason.STOP, 6)


def test_pcm_leaves_out_the_stop_frame_and_the_prompt() -> None:
    engine, runner, _ = build()
    runner.stops[0] = 12
    _, heard = admit(engine, request(prompt=Prompt(np.zeros((9, 10), np.float32))))
    run_dry(engine)
    assert heard.pcm[::10].tolist() == [float(k) for k in range(9, 9 + 12)]
    assert isinstance(heard.end, Finished)
    assert (heard.end.frames, heard.end.samples) == (12, 120)


def test_waiting_for_text_invents_nothing_and_says_so_once() -> None:
    engine, runner, clock = build()
    slot, heard = admit(engine, request(token_ids=None))
    push(engine, slot, heard, [0, 5])
    assert run_dry(engine) == 3
    clock.now += 5.0
    assert run_dry(engine) == 0
    assert [e for e in heard.events if isinstance(e, TextStarved)] == [TextStarved(3)]
    push(engine, slot, heard, [6])
    assert run_dry(engine) == 0
    push(engine, slot, heard, [2], final=True)
    runner.stops[0] = 9
    run_dry(engine)
    assert isinstance(heard.end, Finished)
    assert heard.end.frames == 9
    assert heard.end.rtf == pytest.approx(0.01 * 10 / (9 / 75), rel=1e-6)
    assert engine.stats.starvations == 1


def test_text_that_ends_empty_is_an_error_and_frees_the_slot() -> None:
    engine, _, _ = build()
    slot, heard = admit(engine, request(token_ids=None))
    push(engine, slot, heard, [], final=True)
    engine.step()
    assert isinstance(heard.end, Failed)
    assert isinstance(heard.end.error, EmptyInputError)
    assert engine.pool.in_use == 0


@pytest.mark.parametrize(
    ("changes", "frames"),
    [
        ({"max_frames": 11}, 11),
        ({"max_frames": None}, round((3.0 + 5 * 0.9) * 75)),
        ({"max_frames": 10**6}, 600 - 5 + 1),
    ],
)
def test_runaway_generation_ends_as_length(changes: dict[str, Any], frames: int) -> None:
    """By the request's bound, by the text's, and by the positions of a cache row."""
    engine, _, _ = build(info={"positions": 600})
    _, heard = admit(engine, request(**changes), max_unread=10**6)
    run_dry(engine)
    assert isinstance(heard.end, Finished)
    assert (heard.end.reason, heard.end.frames) == (FinishReason.LENGTH, frames)
    assert len(heard.pcm) == frames * 10


def test_a_slow_reader_pauses_its_own_stream_only() -> None:
    engine, runner, _ = build(slow_reader_timeout_s=1e9)
    _, slow = admit(engine, request(max_frames=40), eager=False, max_unread=12)
    _, quick = admit(engine, request(max_frames=40), max_unread=12)
    run_dry(engine)
    assert isinstance(quick.end, Finished)
    assert slow.end is None
    assert 12 <= slow.outlet.emitted < 12 + 4 * 4
    paused_at = runner.filled[0]
    assert run_dry(engine) == 0
    assert runner.filled[0] == paused_at
    while slow.end is None:
        assert slow.read_all(), "the engine must ask to be woken"
        run_dry(engine)
    assert len(slow.pcm) == 400
    np.testing.assert_array_equal(slow.pcm, quick.pcm)


def test_a_reader_who_never_comes_back_loses_the_slot() -> None:
    engine, _, clock = build(slow_reader_timeout_s=10.0)
    _, slow = admit(engine, request(max_frames=40), eager=False, max_unread=12)
    run_dry(engine)
    clock.now += 11.0
    engine.step()
    assert isinstance(slow.end, Failed)
    assert isinstance(slow.end.error, SlowReaderError)
    assert engine.pool.in_use == 0


def test_cancelling_frees_the_slot_in_the_next_step_and_disturbs_nobody() -> None:
    engine, runner, _ = build()
    slot, gone = admit(engine, request(max_frames=40))
    _, stays = admit(engine, request(max_frames=40))
    for _ in range(5):
        engine.step()
    cancel(engine, slot, gone)
    engine.step()
    assert (engine.pool.in_use, runner.closed) == (1, [slot])
    assert isinstance(gone.end, Finished)
    assert gone.end.reason is FinishReason.CANCELLED
    again, _ = admit(engine, request(max_frames=40))
    assert again == slot
    cancel(engine, slot, gone)  # late, and meant for the stream before
    run_dry(engine)
    assert len(stays.pcm) == 400
    assert engine.stats.finished == {"stop": 0, "length": 2, "cancelled": 1, "failed": 0}


def test_over_capacity_is_said_at_once() -> None:
    engine, _, _ = build()
    for _ in range(4):
        admit(engine, request())
    with pytest.raises(OverCapacityError, match="all 4 slots"):
        admit(engine, request())


def test_a_failing_step_fails_its_streams_only_and_the_loop_goes_on() -> None:
    engine, runner, _ = build(policy=Policy(max_rows=1))
    _, first = admit(engine, request(max_frames=10))
    _, second = admit(engine, request(max_frames=10))
    runner.break_next = RuntimeError("device trouble")
    run_dry(engine)
    assert isinstance(first.end, Failed)
    assert isinstance(first.end.error, EngineError)
    assert str(first.end.error.__cause__) == "device trouble"
    assert isinstance(second.end, Finished)
    assert engine.pool.in_use == 0
    assert engine.stats.step_errors == 1


def test_numbers_that_are_not_finite_fail_the_one_stream() -> None:
    engine, runner, _ = build()
    _, bad = admit(engine, request(max_frames=10))
    _, good = admit(engine, request(max_frames=10))
    runner.invalid.add(0)
    run_dry(engine)
    assert isinstance(bad.end, Failed)
    assert isinstance(good.end, Finished)


def test_ttfa_lead_and_underruns_by_the_clock() -> None:
    engine, runner, _clock = build(step_s=0.02)  # slower than the 1/75 s a frame lasts
    runner.stops[0] = 19
    _, heard = admit(engine, request())
    run_dry(engine)
    chunks = [e for e in heard.events if isinstance(e, AudioChunk)]
    assert isinstance(heard.end, Finished)
    assert heard.end.ttfa_s == pytest.approx(7 * 0.02)
    assert chunks[0].lead_s == pytest.approx(7 / 75)
    # Four frames take 80 ms and give 53 ms: the lead shrinks by 27 ms a chunk until the listener runs dry.
    assert chunks[1].lead_s == pytest.approx(11 / 75 - 0.08)
    assert heard.end.rtf == pytest.approx(0.02 * 20 / (19 / 75))
    assert engine.stats.frames == 19


def test_a_loop_fault_fails_everybody_and_a_second_one_ends_the_thread() -> None:
    faults = 0

    class Broken(Policy):
        def choose(self, candidates: Any) -> list[int]:
            nonlocal faults
            faults += 1
            raise RuntimeError("bug")

    engine, _, _ = build(policy=Broken(max_rows=4))
    _, heard = admit(engine, request())
    with pytest.raises(RuntimeError, match="bug"):
        engine.run(lambda: bool(faults) and not engine.streams and heard.end is not None and _admit_again(engine))
    assert isinstance(heard.end, Failed)
    assert faults == 2


def _admit_again(engine: Engine) -> bool:
    admit(engine, request())
    return False
