"""Commands of `sled-tts evaluate` that let a checkpoint speak and judges hear it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from sled_tts.model.checkpoint import BUILT_IN, ModelBundle, load_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.failures import Outcome, failures_page, outcomes
from sled_tts.model.evaluation.judges import QUALITY_JUDGES, SPEAKER_JUDGES, TRANSCRIBERS, choose
from sled_tts.model.evaluation.options import (
    NO_JUDGE,
    RESULTS,
    Data,
    Guidance,
    Limit,
    Longest,
    Model,
    Out,
    Prefix,
    Quality,
    Seed,
    Shortest,
    Speakers,
    Threads,
    Transcribe,
    publish,
    reported,
)
from sled_tts.model.evaluation.prompting import Setting
from sled_tts.model.evaluation.quality_tables import Protocol, figure_3, table_1, table_2
from sled_tts.model.evaluation.scoring import Panel
from sled_tts.model.evaluation.sentences import arctic_prompts, new_sentences
from sled_tts.model.evaluation.utterances import read_utterances, within
from sled_tts.model.evaluation.voice_page import VoiceStudy, recordings_in, recordings_of, voice_page


class PromptChoice(StrEnum):
    """How Figure 3 prompts."""

    NONE = "none"
    PREFIX = "prefix"
    REFERENCE = "reference"


_SETTINGS = {"none": Setting.NONE, "prefix": Setting.PREFIX, "reference": Setting.REFERENCE}


def _protocol(
    data: Path, shortest: float, longest: float, limit: int | None, transcriber: list[str] | None, speaker: str,
    quality: str, cfg_scale: float, seed: int, prefix: float,
) -> Protocol:  # fmt: skip
    panel = Panel(
        [choose(TRANSCRIBERS, name, "transcriber") for name in transcriber or ["pocketsphinx"] if name != NO_JUDGE],
        None if speaker == NO_JUDGE else choose(SPEAKER_JUDGES, speaker, "speaker"),
        None if quality == NO_JUDGE else choose(QUALITY_JUDGES, quality, "quality"),
    )
    utterances = within(read_utterances(data), shortest, longest, limit)
    return Protocol(utterances, panel, cfg_scale, seed, prefix)


def parse_pacing(text: str) -> tuple[int, int]:
    """`5:20` as (5, 20); BadParameter for anything else."""
    n, colon, m = text.partition(":")
    if not (colon and n.isdecimal() and m.isdecimal() and int(n) and int(m)):
        raise typer.BadParameter(f"{text!r} is no pacing such as 5:20")
    return int(n), int(m)


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
        publish(table_1(protocol, load_bundle(model)), out)


def table2(
    data: Data,
    model: Annotated[list[str] | None, typer.Option(help="Offline and streaming checkpoints; repeatable.")] = None,
    pacing: Annotated[list[str] | None, typer.Option(help="n:m to stream at, such as 5:20; repeatable.")] = None,
    shortest: Shortest = 4.0, longest: Longest = 10.0, limit: Limit = None, transcriber: Transcribe = None,
    quality: Quality = "dnsmos", cfg_scale: Guidance = 2.0, seed: Seed = 0, threads: Threads = None, out: Out = RESULTS,
) -> None:  # fmt: skip
    """Table 2: offline and streaming. Only pacings that a checkpoint was trained for make sense."""
    with reported(threads):
        protocol = _protocol(data, shortest, longest, limit, transcriber, NO_JUDGE, quality, cfg_scale, seed, 0.0)
        bundles = [load_bundle(spec) for spec in model or [BUILT_IN]]
        publish(table_2(protocol, bundles, [parse_pacing(text) for text in pacing or []]), out)


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
        publish(figure_3(protocol, load_bundle(model), guidance or [1.0, 1.5, 2.0, 2.5], _SETTINGS[prompt]), out)


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
        names: list[str | None] = [*voice] if voice else [None]
        for name in names:
            chosen = bundle.voice(name)
            heard = outcomes(bundle, lines, voice=name, seed=seed, cfg_scale=cfg_scale, batch=batch)
            found["-" if chosen is None else chosen.id] = _watched(heard, len(lines))
        origin = "halves of two different Arctic prompts, which nobody has read" if texts is None else texts.name
        scale = f"Scale: {len(lines)} sentences a voice ({origin}), checkpoint `{bundle.name}`."
        publish(failures_page(bundle, found, scale, {"guidance": cfg_scale, "seed": seed, "batch": batch}), out)


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


def voice(
    model: Model = BUILT_IN,
    recordings: Annotated[Path | None, typer.Option(help="A corpus folder, or a test set as table1 takes.")] = None,
    recorded_as: Annotated[
        list[str] | None, typer.Option(help="VOICE=SPEAKER, whose recordings to compare; repeatable.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Prompts that the default voice says.")] = 42,
    other_count: Annotated[int, typer.Option(min=1, help="Prompts that each other voice says.")] = 21,
    sentences: Annotated[int, typer.Option(min=1, help="Over which the default voice's failures are counted.")] = 1000,
    other_sentences: Annotated[int, typer.Option(min=1, help="The same for each other voice.")] = 100,
    quality: Annotated[bool, typer.Option(help="DNSMOS and speaker similarity (the quality extra).")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")] = 2,
    cfg_scale: Guidance = 2.0, seed: Seed = 0, out: Out = RESULTS,
) -> None:  # fmt: skip
    """The page about a checkpoint's voices, beside their readers' recordings."""
    with reported():
        names = dict(_voice_and_speaker(text) for text in recorded_as or [])
        if recordings is not None and not names:
            default = load_bundle(model).voice()
            names = {} if default is None else {default.id: default.id}
        real = {} if recordings is None else recordings_of(read_utterances(recordings_in(recordings)), names, count)
        study = VoiceStudy(
            model, (count, other_count), (sentences, other_sentences), cfg_scale, seed, quality, real
        )  # fmt: skip
        publish(voice_page(study, jobs), out)


def _voice_and_speaker(text: str) -> tuple[str, str]:
    voice_id, equals, speaker = text.partition("=")
    if not (voice_id and equals and speaker):
        raise typer.BadParameter(f"{text!r} is not VOICE=SPEAKER")
    return voice_id, speaker
