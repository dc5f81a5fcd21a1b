"""`sled-tts evaluate ...`: the paper's tables and figures, and the pages about a voice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from sled_tts.model.checkpoint import BUILT_IN, ModelBundle, load_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.failures import Outcome, failures_page, outcomes
from sled_tts.model.evaluation.judges import QUALITY_JUDGES, SPEAKER_JUDGES, TRANSCRIBERS, choose
from sled_tts.model.evaluation.page import Page
from sled_tts.model.evaluation.prompting import Setting
from sled_tts.model.evaluation.quality_tables import Protocol, figure_3, table_1, table_2
from sled_tts.model.evaluation.scoring import Panel
from sled_tts.model.evaluation.sentences import arctic_prompts, new_sentences
from sled_tts.model.evaluation.utterances import read_utterances, within

app = typer.Typer(no_args_is_help=True, help="The paper's tables and figures, and pages about a voice.")

_NONE = "none"

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


class PromptChoice(StrEnum):
    """How Figure 3 prompts."""

    NONE = "none"
    PREFIX = "prefix"
    REFERENCE = "reference"


_SETTINGS = {"none": Setting.NONE, "prefix": Setting.PREFIX, "reference": Setting.REFERENCE}


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


def _protocol(
    data: Path, shortest: float, longest: float, limit: int | None, transcriber: list[str] | None, speaker: str,
    quality: str, cfg_scale: float, seed: int, prefix: float,
) -> Protocol:  # fmt: skip
    panel = Panel(
        [choose(TRANSCRIBERS, name, "transcriber") for name in transcriber or ["pocketsphinx"] if name != _NONE],
        None if speaker == _NONE else choose(SPEAKER_JUDGES, speaker, "speaker"),
        None if quality == _NONE else choose(QUALITY_JUDGES, quality, "quality"),
    )
    utterances = within(read_utterances(data), shortest, longest, limit)
    return Protocol(utterances, panel, cfg_scale, seed, prefix)


def _publish(page: Page, out: Path) -> None:
    written = page.write(out)
    typer.echo(written.read_text(encoding="utf-8"))
    typer.echo(f"wrote {written}")


def parse_pacing(text: str) -> tuple[int, int]:
    """`5:20` as (5, 20); BadParameter for anything else."""
    n, colon, m = text.partition(":")
    if not (colon and n.isdecimal() and m.isdecimal() and int(n) and int(m)):
        raise typer.BadParameter(f"{text!r} is no pacing such as 5:20")
    return int(n), int(m)


@app.command()
def table1(
    data: Data, model: Model = BUILT_IN, shortest: Shortest = 4.0, longest: Longest = 10.0, limit: Limit = None,
    prefix: Prefix = 3.0, transcriber: Transcribe = None, speaker: Speakers = "resemblyzer",
    quality: Quality = "dnsmos", cfg_scale: Guidance = 2.0, seed: Seed = 0, threads: Threads = None, out: Out = RESULTS,
) -> None:  # fmt: skip
    """Table 1: speech after a prefix and after a reference utterance."""
    with reported(threads):
        protocol = _protocol(
            data, shortest, longest, limit, transcriber, speaker, quality, cfg_scale, seed, prefix
        )  # fmt: skip
        _publish(table_1(protocol, load_bundle(model)), out)


@app.command()
def table2(
    data: Data,
    model: Annotated[list[str] | None, typer.Option(help="Offline and streaming checkpoints; repeatable.")] = None,
    pacing: Annotated[list[str] | None, typer.Option(help="n:m to stream at, such as 5:20; repeatable.")] = None,
    shortest: Shortest = 4.0, longest: Longest = 10.0, limit: Limit = None, transcriber: Transcribe = None,
    quality: Quality = "dnsmos", cfg_scale: Guidance = 2.0, seed: Seed = 0, threads: Threads = None, out: Out = RESULTS,
) -> None:  # fmt: skip
    """Table 2: offline and streaming. Only pacings that a checkpoint was trained for make sense."""
    with reported(threads):
        protocol = _protocol(data, shortest, longest, limit, transcriber, _NONE, quality, cfg_scale, seed, 0.0)
        bundles = [load_bundle(spec) for spec in model or [BUILT_IN]]
        _publish(table_2(protocol, bundles, [parse_pacing(text) for text in pacing or []]), out)


@app.command()
def figure3(
    data: Data, model: Model = BUILT_IN,
    guidance: Annotated[list[float] | None, typer.Option(help="Repeatable; 1.0, 1.5, 2.0 and 2.5 by default.")] = None,
    prompt: Annotated[PromptChoice, typer.Option(help="What an utterance goes on from.")] = PromptChoice.NONE,
    shortest: Shortest = 4.0, longest: Longest = 10.0, limit: Limit = None, prefix: Prefix = 3.0,
    transcriber: Transcribe = None, speaker: Speakers = "resemblyzer", quality: Quality = "dnsmos", seed: Seed = 0,
    threads: Threads = None, out: Out = RESULTS,
) -> None:  # fmt: skip
    """Figure 3: recognition, similarity and quality over guidance."""
    with reported(threads):
        protocol = _protocol(data, shortest, longest, limit, transcriber, speaker, quality, 2.0, seed, prefix)
        _publish(figure_3(protocol, load_bundle(model), guidance or [1.0, 1.5, 2.0, 2.5], _SETTINGS[prompt]), out)


@app.command()
def failures(
    model: Model = BUILT_IN,
    count: Annotated[int, typer.Option(min=1, help="Sentences.")] = 1000,
    voice: Annotated[list[str] | None, typer.Option(help="Of the checkpoint; repeatable; its default voice.")] = None,
    texts: Annotated[Path | None, typer.Option(help="One sentence a line; unset: halves of Arctic prompts.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sentences spoken together.")] = 32,
    cfg_scale: Guidance = 2.0, seed: Seed = 0, threads: Threads = None, out: Out = RESULTS,
) -> None:  # fmt: skip
    """How many of a thousand sentences are empty, cut off or do not end."""
    with reported(threads):
        bundle = load_bundle(model)
        lines = _sentences(bundle, texts, count, seed)
        found = {}
        for name in voice or [None]:
            chosen = bundle.voice(name)
            heard = outcomes(bundle, lines, voice=name, seed=seed, cfg_scale=cfg_scale, batch=batch)
            found["-" if chosen is None else chosen.id] = _watched(heard, len(lines))
        origin = "halves of two different Arctic prompts, which nobody has read" if texts is None else texts.name
        scale = f"Scale: {len(lines)} sentences a voice ({origin}), checkpoint `{bundle.name}`."
        _publish(failures_page(bundle, found, scale, {"guidance": cfg_scale, "seed": seed, "batch": batch}), out)


def _sentences(bundle: ModelBundle, texts: Path | None, count: int, seed: int) -> list[str]:
    longest = bundle.extras.max_segment_chars
    if texts is None:
        return new_sentences(arctic_prompts(), count, seed, longest)
    lines = [line.strip() for line in texts.read_text(encoding="utf-8").splitlines()]
    fitting = [line for line in lines if line and (longest is None or len(line) <= longest)][:count]
    if len(fitting) < count:
        raise ModelError(f"{texts} has only {len(fitting)} lines of at most {longest} characters", param="texts")
    return fitting


def _watched(heard: Iterator[Outcome], total: int) -> list[Outcome]:
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as progress:
        return list(progress.track(heard, total=total, description="sentences"))


if __name__ == "__main__":
    app()
