"""What a person sees of a training run: lines, and a bar with the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sled_tts.model.training.loop import StepReport


@dataclass(frozen=True)
class Display:
    """Writes to stderr, and nothing at all when `quiet`."""

    progress: Progress
    bar: TaskID
    quiet: bool

    def say(self, text: str) -> None:
        if not self.quiet:
            self.progress.console.print(text, highlight=False, markup=False)

    def report(self, report: StepReport) -> None:
        figures = f"energy {report.energy:.3f}  stop {report.stop:.4f}  phones {report.phone_accuracy:.2f}"
        self.progress.update(self.bar, completed=report.step, description=figures, visible=not self.quiet)
        if not self.progress.console.is_terminal:
            self.say(f"step {report.step}  {figures}  gradient {report.gradient:.2f}  {report.seconds:.0f} s")


@contextmanager
def run_display(steps: int, *, quiet: bool) -> Iterator[Display]:
    """A display for a run of `steps` steps of the network."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Display(progress, progress.add_task("network", total=steps, visible=False), quiet)
