"""Drawings of results, with matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sled_tts.model.errors import ModelError

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One pair of axes: lines of (x, y) points by name, or bars of one height a name."""

    y_label: str
    lines: Mapping[str, Points] | None = None
    bars: Mapping[str, float] | None = None
    x_label: str = ""
    log_x: bool = False


@dataclass(frozen=True)
class Drawing:
    """Panels side by side."""

    title: str
    panels: Sequence[Panel]

    def save(self, path: Path) -> None:
        """Raises ModelError without matplotlib."""
        try:
            import matplotlib as mpl
        except ImportError as error:
            raise ModelError(f"{error}; drawings need the plot extra: pip install '.[plot]'") from error
        mpl.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, len(self.panels), figsize=(4.6 * len(self.panels), 3.6), squeeze=False)
        for panel, pair in zip(self.panels, axes[0], strict=True):
            for name, points in (panel.lines or {}).items():
                pair.plot([x for x, _ in points], [y for _, y in points], marker=".", label=name)
            if panel.bars:
                pair.bar(range(len(panel.bars)), list(panel.bars.values()), color="tab:blue")
                pair.set_xticks(range(len(panel.bars)), list(panel.bars), rotation=25, ha="right", fontsize=8)
            if panel.log_x:
                pair.set_xscale("log")
            pair.set(xlabel=panel.x_label, ylabel=panel.y_label)
            pair.grid(alpha=0.3)
            if panel.lines and len(panel.lines) > 1:
                pair.legend(fontsize=8)
        figure.suptitle(self.title)
        figure.savefig(path, dpi=100, bbox_inches="tight", metadata={"Software": None})
        pyplot.close(figure)
