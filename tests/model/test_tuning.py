"""Threads are chosen by what they bring."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from sled_tts.model.tuning import ThreadChoice, choose_threads, frame_work, pick, thread_candidates
from tests.fakes import tiny_codec
from tests.model.factories import tiny


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ([(1, 10.0)], 1),
        ([(1, 10.0), (2, 5.6)], 2),
        ([(1, 10.0), (2, 9.5)], 1),
        ([(1, 10.0), (2, 9.5), (4, 6.5)], 4),
        ([(1, 10.0), (2, 7.5), (4, 7.2)], 1),
        ([(1, 10.0), (2, 5.0), (4, 4.8)], 2),
        ([(1, 10.0), (2, 12.0), (4, 15.0)], 1),
    ],
)
def test_more_threads_must_save_three_tenths(times: list[tuple[int, float]], chosen: int) -> None:
    assert pick(times) == chosen


def test_candidates_end_at_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_candidates(1) == (1,)
    assert thread_candidates(6) == (1, 2, 4, 6)
    assert thread_candidates(16) == (1, 2, 4, 8, 16)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert thread_candidates(16) == (1, 2)


def test_the_choice_is_measured_and_set() -> None:
    seen: list[int] = []
    choice = choose_threads(lambda: seen.append(torch.get_num_threads()), candidates=(1, 2), rounds=3)
    assert seen == [1, 2] * 4
    assert [threads for threads, _ in choice.times] == [1, 2]
    assert choice.threads == pick(choice.times) == torch.get_num_threads()


def test_threads_that_are_fast_once_in_a_while_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on cores that somebody else is busy on."""
    clock, turns = [0.0], itertools.count()

    def work() -> None:
        lucky = next(turns) // 2 == 3
        clock[0] += 10.0 if torch.get_num_threads() == 1 else 6.0 if lucky else 90.0

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    choice = choose_threads(work, candidates=(1, 2), rounds=7)
    assert choice == ThreadChoice(1, ((1, 10.0), (2, 90.0)))


def test_a_frame_of_work_can_be_repeated() -> None:
    sled = tiny()[0].prepare_for_inference()
    choice = choose_threads(frame_work(sled, tiny_codec()), candidates=(1, 2), rounds=2)
    assert all(0 < seconds < 10 for _, seconds in choice.times)


def test_one_core_needs_no_measurement() -> None:
    choice = choose_threads(lambda: pytest.fail("measured"), candidates=(1,))
    assert (choice.threads, choice.times) == (1, ())
