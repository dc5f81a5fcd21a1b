"""Work under way: what an engine asks of a device that goes on while the host does, and how others are asked the same.

A step's stop flags are read one step late, so that the host never waits for a device that has nothing left to do: step
k + 1 is queued before it is known whose speech ended in step k. The frame that such a stream is given too much is
dropped, wherever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

from sled_tts.server.engine.request import Float32
from sled_tts.server.engine.work import DecodeWork, RowOutcome, RowWork, StepRunner

if TYPE_CHECKING:
    from sled_tts.server.engine.streams import Stream

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Pending(Protocol[T_co]):
    """A result that a device is working on."""

    @property
    def done(self) -> bool:
        """Whether `wait` would return at once."""

    def wait(self) -> T_co:
        """The result, once; raises what went wrong."""


@dataclass(frozen=True)
class Ready(Generic[T]):
    """A result that is there."""

    value: T
    done: bool = True

    def wait(self) -> T:
        return self.value


@runtime_checkable
class Device(Protocol):
    """What a runner is as well if its device works while the host goes on: `lag` steps may be under way before the
    outcomes of the first are asked for."""

    lag: int

    def launch(self, rows: Sequence[RowWork]) -> Pending[list[RowOutcome]]:
        """As `StepRunner.step`, without waiting."""

    def launch_decode(self, work: Sequence[DecodeWork]) -> Pending[list[Float32]]:
        """As `StepRunner.decode`, without waiting."""


@dataclass
class AtOnce:
    """Any other runner: its steps are over when they have been launched."""

    runner: StepRunner
    lag: int = 0

    def launch(self, rows: Sequence[RowWork]) -> Ready[list[RowOutcome]]:
        return Ready(self.runner.step(rows))

    def launch_decode(self, work: Sequence[DecodeWork]) -> Ready[list[Float32]]:
        return Ready(self.runner.decode(work))


def device_of(runner: StepRunner) -> Device:
    return runner if isinstance(runner, Device) else AtOnce(runner)


@dataclass(frozen=True)
class Launched:
    """A step under way, and when it began."""

    streams: Sequence[Stream]
    outcomes: Pending[list[RowOutcome]]
    began: float
