"""Commands of `sled-tts evaluate` about costs, trainings and distributions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sled_tts.model.checkpoint import BUILT_IN, load_bundle
from sled_tts.model.evaluation.ablations import Experiment, Recognise, table_3, table_5
from sled_tts.model.evaluation.arms import Selection
from sled_tts.model.evaluation.cost_tables import PUBLISHED, Subject, table_4, table_6, table_7
from sled_tts.model.evaluation.foretelling import foretold_page
from sled_tts.model.evaluation.judges import Wave
from sled_tts.model.evaluation.normality import appendix_b
from sled_tts.model.evaluation.options import (
    RESULTS,
    Data,
    Limit,
    Longest,
    Model,
    Out,
    Seed,
    Shortest,
    Threads,
    publish,
    reported,
)
from sled_tts.model.evaluation.sentences import arctic_prompts
from sled_tts.model.evaluation.utterances import of_speaker, read_utterances, within

Subjects = Annotated[list[str] | None, typer.Option(help="published (random weights), built-in, ...; repeatable.")]
Frames = Annotated[int, typer.Option(min=8, help="Frames of an utterance.")]


def _subjects(model: list[str] | None, seed: int) -> list[Subject]:
    return [Subject.of(spec, seed) for spec in model or [PUBLISHED, BUILT_IN]]


def table4(
    model: Subjects = None, frames: Frames = 50, seed: Seed = 0, threads: Threads = 1, out: Out = RESULTS
) -> None:
    """Table 4: parameters, RTF and operations for 10 s of speech."""
    with reported(threads):
        publish(table_4(_subjects(model, seed), frames, seed), out)


def table6(
    model: Subjects = None, frames: Frames = 50, seed: Seed = 0, threads: Threads = 1, out: Out = RESULTS
) -> None:
    """Table 6: latency by part."""
    with reported(threads):
        publish(table_6(_subjects(model, seed), frames, seed), out)


def table7(
    model: Subjects = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Repeatable; 1, 16 and 64 by default.")] = None,
    frames: Frames = 20, seed: Seed = 0, threads: Threads = 1, out: Out = RESULTS,
) -> None:  # fmt: skip
    """Table 7: RTF in batches."""
    with reported(threads):
        publish(table_7(_subjects(model, seed), batch or [1, 16, 64], frames, seed), out)


Work = Annotated[Path, typer.Option(exists=True, file_okay=False, help="As `sled-tts train` leaves it.")]
Arms = Annotated[Path, typer.Option(help="Where the arms are trained; what is there is gone on from.")]
Speaker = Annotated[str | None, typer.Option(help="Of the corpus; all by default.")]
Spoken = Annotated[int, typer.Option(min=1, help="Held-out Arctic prompts that each arm says.")]
Noise = Annotated[float, typer.Option(help="Scale of the noise when speaking; the paper's is 1.")]
LongestFrames = Annotated[int | None, typer.Option(help="Frames; longer utterances are left out.")]
Heard = Annotated[bool, typer.Option(help="Let pocketsphinx hear the arms.")]


def _experiment(work: Path, arms: Path, sentences: int, recognise: bool, seed: int, noise_scale: float) -> Experiment:
    return Experiment(
        work, arms, arctic_prompts()[:sentences], _recogniser(sentences) if recognise else None, seed, noise_scale
    )


def _recogniser(sentences: int) -> Recognise:
    # Here, so that the other commands do not need the `eval` extra.
    from sled_tts.model.evaluation.recognition import ClosedSet, score

    closed = ClosedSet.of(arctic_prompts()[:sentences], arctic_prompts(), 300)

    def recognise(clips: Sequence[tuple[str, Wave, int]]) -> tuple[float, float]:
        heard = score(clips, closed)
        return heard.closed_set_accuracy, heard.open_wer

    return recognise


def table3(
    work: Work,
    arms: Arms = Path("arms"),
    start: Annotated[str | None, typer.Option(help="A checkpoint folder that two arms go on from.")] = None,
    start_steps: Annotated[int, typer.Option(min=1, help="Their steps.")] = 150,
    start_speaker: Speaker = None,
    fresh_steps: Annotated[int, typer.Option(min=0, help="Steps of two arms from nothing; 0 for none.")] = 200,
    fresh_speaker: Speaker = None,
    fresh_longest: LongestFrames = 170,
    fresh_hours: Annotated[float | None, typer.Option(help="Hours of speech; all by default.")] = None,
    sentences: Spoken = 20, recognise: Heard = True, noise_scale: Noise = 1.0, seed: Seed = 0, threads: Threads = None,
    out: Out = RESULTS,
) -> None:  # fmt: skip
    """Table 3: the energy distance against RMSE, by training."""
    with reported(threads):
        experiment = _experiment(work, arms, sentences, recognise, seed, noise_scale)
        fresh = Selection(fresh_speaker, fresh_longest, fresh_hours)
        publish(table_3(experiment, start, (start_steps, Selection(start_speaker)), (fresh_steps, fresh)), out)


def table5(
    work: Work,
    hours: Annotated[list[float], typer.Option(help="Hours of speech of an arm; repeatable.")],
    arms: Arms = Path("arms"),
    steps: Annotated[int, typer.Option(min=1, help="Of each arm.")] = 200,
    speaker: Speaker = None, longest: LongestFrames = 170, sentences: Spoken = 20, recognise: Heard = True,
    noise_scale: Noise = 1.0, seed: Seed = 0, threads: Threads = None, out: Out = RESULTS,
) -> None:  # fmt: skip
    """Table 5: the amount of data, by training."""
    with reported(threads):
        experiment = _experiment(work, arms, sentences, recognise, seed, noise_scale)
        publish(table_5(experiment, steps, [Selection(speaker, longest, each) for each in sorted(hours)]), out)


def appendixb(
    model: Model = BUILT_IN,
    sentences: Spoken = 8,
    frames: Annotated[int, typer.Option(min=1, help="Frames whose samples are tested.")] = 40,
    samples: Annotated[int, typer.Option(min=20, max=5000, help="Samples of each frame.")] = 500,
    seed: Seed = 0, threads: Threads = None, out: Out = RESULTS,
) -> None:  # fmt: skip
    """Appendix B: Shapiro-Wilk for each latent dimension."""
    with reported(threads):
        publish(appendix_b(load_bundle(model), arctic_prompts()[:sentences], frames, samples, seed), out)


def foretell(
    data: Data,
    model: Annotated[list[str] | None, typer.Option(help="Checkpoints that share a codec; repeatable.")] = None,
    speaker: Annotated[str | None, typer.Option(help="Of the recordings; all by default.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="Samples of each frame.")] = 10,
    shortest: Shortest = 1.0, longest: Longest = 20.0, limit: Limit = None, seed: Seed = 0, threads: Threads = None,
    out: Out = RESULTS,
) -> None:  # fmt: skip
    """How much of held-out recordings a network foretells, and how far its samples scatter."""
    with reported(threads):
        heard = within(of_speaker(read_utterances(data), speaker), shortest, longest, limit)
        publish(foretold_page([load_bundle(spec) for spec in model or [BUILT_IN]], heard, samples, seed), out)
