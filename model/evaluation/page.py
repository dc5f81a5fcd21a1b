"""A page of results: a markdown table with the paper's figures beside, the same as JSON, and a drawing."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.drawing import Drawing
from sled_tts.model.machine import machine

Row = Mapping[str, Any]
_WIDTH = 120


@dataclass(frozen=True)
class Column:
    """`key` in a row, its heading, and how a number is written (a format such as `.2f` or `.0%`)."""

    key: str
    title: str
    number: str = ""

    def show(self, row: Row) -> str:
        value = row.get(self.key)
        if value is None:
            return "-"
        return format(value, self.number) if isinstance(value, int | float) else str(value)


@dataclass(frozen=True)
class Page:
    """One table or figure. `scale` says plainly what was run; `paper` holds rows of the same columns, or none when its
    figures are not known; `data` is kept in the JSON only."""

    name: str
    title: str
    scale: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    paper: Sequence[Row] = ()
    notes: Sequence[str] = ()
    drawing: Drawing | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None

    def markdown(self, command: str, about: Mapping[str, Any]) -> str:
        """The page as text."""
        lines = [f"# {self.title}", "", fill(self.scale, _WIDTH), "", *self._table(self.rows)]
        if self.paper:
            lines += ["", "The paper (arXiv 2505.13181), on its own scale:", "", *self._table(self.paper)]
        if self.drawing is not None:
            lines += ["", f"![{self.drawing.title}]({self.name}.png)"]
        lines += [line for note in self.notes for line in ("", fill(note, _WIDTH))]
        facts = ", ".join(f"{key} {value}" for key, value in {**self.settings, **about}.items() if value is not None)
        lines += ["", "Made by (paths shortened)", "", "```bash", command, "```", "", fill(f"on: {facts}.", _WIDTH)]
        return "\n".join(lines) + "\n"

    def _table(self, rows: Sequence[Row]) -> list[str]:
        """Columns that no row has a value for are left out."""
        shown = [c for c in self.columns if any(row.get(c.key) is not None for row in rows)]
        head = ["| " + " | ".join(c.title for c in shown) + " |", "|" + "---|" * len(shown)]
        return head + ["| " + " | ".join(c.show(row) for c in shown) + " |" for row in rows]

    def write(self, folder: Path, command: str | None = None) -> Path:
        """Write `NAME.md`, `NAME.json` and, where there is something to draw, `NAME.png`. ModelError when the folder
        cannot be written or a drawing is wanted without matplotlib."""
        about, command = machine(), command or command_line(sys.argv)
        settings = {key: _plain(value) for key, value in self.settings.items()}
        content = {
            "name": self.name, "title": self.title, "scale": self.scale, "command": command, "about": about,
            "settings": settings, "rows": list(self.rows), "paper": list(self.paper), "data": self.data,
        }  # fmt: skip
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.drawing is not None:
                self.drawing.save(folder / f"{self.name}.png")
            text = json.dumps(content, indent=1, allow_nan=False)
            (folder / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")
            (folder / f"{self.name}.md").write_text(self.markdown(command, about), encoding="utf-8")
        except OSError as error:
            raise ModelError(f"{folder}: {error}", param="out") from error
        return folder / f"{self.name}.md"


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else str(value)


def command_line(argv: Sequence[str]) -> str:
    """The command as typed; of a path that is here only the last name, so that no page tells of a machine."""
    words = argv[argv.index("evaluate") + 1 :] if "evaluate" in argv else argv[1:]
    return shlex.join(["sled-tts", "evaluate", *map(_short, words)])


def _short(word: str) -> str:
    local = word.startswith(("/", ".", "~")) or ("/" in word and Path(word).exists())
    return Path(word).name if local else word
