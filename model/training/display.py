"""What a person sees of a training run: lines, a bar with the time left for each stage, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sled_tts.model.errors import ModelError
from sled_tts.model.training.loop import StepReport


@dataclass
class Display:
    """Writes to stderr, and nothing at all when `quiet`. `steps`: of the network."""

    progress: Progress
    steps: int
    quiet: bool
    _bars: dict[str, TaskID] = field(default_factory=dict)

    def say(self, text: str) -> None:
        if not self.quiet:
            self.progress.console.print(text, highlight=False, markup=False)

    def step(self, stage: str, done: int, of: int, figures: str = "") -> None:
        """`done` of `of` steps; where there is no terminal, a line for every call that has figures."""
        if self.quiet:
            return
        if stage not in self._bars:
            self._bars[stage] = self.progress.add_task(stage, total=of)
        self.progress.update(self._bars[stage], completed=done, description=f"{stage}  {figures}")
        if figures and not self.progress.console.is_terminal:
            self.say(f"{stage} {done}/{of}  {figures}")

    def report(self, report: StepReport) -> None:
        figures = f"energy {report.energy:.3f}  stop {report.stop:.4f}  phones {report.phone_accuracy:.2f}"
        if not self.progress.console.is_terminal:
            figures += f"  gradient {report.gradient:.2f}  {report.seconds:.0f} s"
        self.step("network", report.step, self.steps, figures)


@contextmanager
def run_display(steps: int, *, quiet: bool) -> Iterator[Display]:
    """A display for a run of `steps` steps of the network."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Display(progress, steps, quiet)


@contextmanager
def ended_clearly() -> Iterator[None]:
    """A ModelError or Ctrl-C ends the command with a line and a status, not with a traceback."""
    try:
        yield
    except ModelError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.secho("interrupted; the same command goes on from what was saved last", fg="yellow", err=True)
        raise typer.Exit(130) from None
