"""`sled-tts evaluate ...`: the paper's tables and figures, and the pages about a voice."""

from __future__ import annotations

import typer

from sled_tts.model.evaluation import quality_commands as quality
from sled_tts.model.evaluation import study_commands as study

app = typer.Typer(no_args_is_help=True, help="The paper's tables and figures, and pages about a voice.")

for command in (
    quality.table1, quality.table2, study.table3, study.table4, study.table5, study.table6, study.table7,
    quality.figure3, study.appendixb, study.foretell, quality.failures, quality.voice,
):  # fmt: skip
    app.command()(command)

if __name__ == "__main__":
    app()
