"""Progress on anything that takes longer than a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def working(console: Console, what: str) -> Iterator[None]:
    """A bar that moves until the block ends and says how long it took; one plain line without a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(pulse_style="cyan"), TimeElapsedColumn())
    if not console.is_terminal:
        console.print(f"{what} ...", highlight=False)
        yield
        return
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=None)
        yield
        progress.update(task, total=1, completed=1)
