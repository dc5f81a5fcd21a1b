"""Options that the commands of `sled-tts evaluate` share, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.judges import QUALITY_JUDGES, SPEAKER_JUDGES, TRANSCRIBERS
from sled_tts.model.evaluation.page import Page

NO_JUDGE = "none"

Model = Annotated[str, typer.Option(help="built-in, a folder or a hub id.")]
Out = Annotated[Path, typer.Option(help="Folder of the page: markdown, JSON and a drawing.")]
Seed = Annotated[int, typer.Option(help="Of noise and selection.")]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance; 1 is unguided.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; unset lets torch decide.")]
Data = Annotated[
    Path, typer.Option(help="LibriSpeech(-PC): a folder with *.trans.txt, a manifest with audio_filepath, or cuts.")
]
Shortest = Annotated[float, typer.Option(help="Seconds; shorter utterances are left out.")]
Longest = Annotated[float, typer.Option(help="Seconds; longer utterances are left out.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many utterances.")]
Prefix = Annotated[float, typer.Option(help="Seconds of an utterance that are its prefix.")]
Transcribe = Annotated[list[str] | None, typer.Option(help=f"{', '.join(TRANSCRIBERS)}; repeatable.")]
Speakers = Annotated[str, typer.Option(help=f"{', '.join(SPEAKER_JUDGES)} or none.")]
Quality = Annotated[str, typer.Option(help=f"{', '.join(QUALITY_JUDGES)} or none.")]

RESULTS = Path("docs/results")


@contextmanager
def reported(threads: int | None = None) -> Iterator[None]:
    """ModelError as a line and exit status 1."""
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    except ModelError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from None


def publish(page: Page, out: Path) -> None:
    """Write the page and show it."""
    written = page.write(out)
    typer.echo(written.read_text(encoding="utf-8"))
    typer.echo(f"wrote {written}")
