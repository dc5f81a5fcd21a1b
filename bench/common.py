"""What every benchmark needs: the machine it ran on, medians with spread, a table, JSON on the last line, a drawing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sled_tts.model.machine import machine as machine


@dataclass(frozen=True)
class Spread:
    """Median, tenth and ninetieth percentile, and the best, of one quantity."""

    median: float
    p10: float
    p90: float
    best: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        last = len(ordered) - 1

        def at(part: float) -> float:
            return ordered[round(part * last)]

        return cls(at(0.5), at(0.1), at(0.9), ordered[0])

    def to_dict(self, digits: int = 4) -> dict[str, float]:
        return {name: round(getattr(self, name), digits) for name in ("median", "p10", "p90", "best")}

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.p10:.2f} .. {self.p90:.2f})"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*columns, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    Console(width=160).print(table)


def introduce(about: Mapping[str, Any]) -> None:
    print(*(f"{name}: {value}" for name, value in about.items()), sep="\n", flush=True)


def finish(about: Mapping[str, Any], results: Any) -> None:
    """JSON on the last line."""
    print(json.dumps({"about": dict(about), "results": results}))


def draw(
    path: Path, title: str, x_label: str, y_label: str, lines: Mapping[str, Sequence[tuple[float, float]]]
) -> None:
    """One line for each name over logarithmic x. Needs matplotlib, the `plot` extra."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install 'sled-tts[plot]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name, points in lines.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    ticks = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(title=title, xlabel=x_label, ylabel=y_label, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
