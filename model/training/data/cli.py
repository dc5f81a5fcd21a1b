"""`sled-tts data ...`: manifests of corpora, and shards of codes or latents to train on."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.training.data.download import download, extract
from sled_tts.model.training.data.encode import Encoder
from sled_tts.model.training.data.plan import Encoding
from sled_tts.model.training.data.prepare import ManifestWriter
from sled_tts.model.training.data.shards import ShardIndex
from sled_tts.model.training.data.sources import SOURCES, Parts
from sled_tts.model.training.data.speaking import Speaker, speak_all
from sled_tts.model.training.display import ended_clearly, run_display
from sled_tts.model.training.manifests import Limits
from sled_tts.model.training.recordings import Preparation

app = typer.Typer(no_args_is_help=True, help="Corpora to train on: manifests and shards.")


class Kind(StrEnum):
    """What a corpus looks like on disk."""

    LIBRIHEAVY = "libriheavy"
    LIBRISPEECH = "librispeech"
    LJSPEECH = "ljspeech"
    FOLDER = "folder"
    SYNTHETIC = "synthetic"


SkipBad = Annotated[bool, typer.Option(help="Go on without what cannot be used, after saying what.")]
Shortest = Annotated[float, typer.Option(help="Seconds; shorter utterances are reported.")]
Longest = Annotated[float, typer.Option(help="Seconds; longer utterances are reported, never shortened.")]


@app.command()
@ended_clearly()
def prepare(
    kind: Kind,
    source: Annotated[Path, typer.Argument(help="The corpus's folder; for synthetic a text, one sentence a line.")],
    out: Annotated[Path, typer.Argument(help="Folder for the manifests, one for each part.")],
    part: Annotated[list[str] | None, typer.Option(help="Only this part, such as train-clean-100; repeat.")] = None,
    fetch: Annotated[bool, typer.Option("--download", help="Fetch what is missing first; continues.")] = False,
    base_url: Annotated[str | None, typer.Option(help="Mirror to fetch from.")] = None,
    voice: Annotated[list[str] | None, typer.Option(help="synthetic: flite:NAME or festival:NAME; repeat.")] = None,
    shortest_s: Shortest = 0.3,
    longest_s: Longest = 35.0,
    skip_bad: SkipBad = False,
) -> None:
    """Write LibriHeavy-style manifests (lhotse MonoCuts as JSON lines) of a corpus."""
    parts = part or []
    if kind is Kind.SYNTHETIC:
        found = _synthetic(source, out, voice or ["flite:slt"])
    else:
        if fetch:
            _fetch(kind, source, parts, base_url)
        elif not source.is_dir():
            raise ModelError(f"there is no folder {source}", param="source")
        found = SOURCES[kind].find(source, parts)
    if not found:
        raise ModelError(f"{source} holds no {kind.value} corpus", param="source")
    writer = ManifestWriter(out, Limits(shortest_s, longest_s), skip_bad, compress=kind is Kind.LIBRIHEAVY)
    for name, utterances in found.items():
        path, report = writer.write(name, utterances)
        typer.echo(f"{path}: {report}")


def _fetch(kind: Kind, source: Path, parts: Sequence[str], base_url: str | None) -> None:
    chosen = SOURCES[kind]
    if chosen.files is None:
        raise ModelError(f"{kind.value} has nothing to download", param="download")
    parts = parts or (chosen.parts if len(chosen.parts) == 1 else ())
    if not parts:
        raise ModelError(f"say which parts to download: --part, of {', '.join(chosen.parts)}", param="part")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for remote in (remote for part in parts for remote in chosen.files(part)):
            bar = progress.add_task(remote.name, total=None)

            def show(done: int, of: int | None, bar: object = bar) -> None:
                progress.update(bar, completed=done, total=of)  # type: ignore[arg-type]

            archive = download(remote.at(base_url), source, progress=show)
            if ".tar" in archive.suffixes:
                extract(archive, source)


def _synthetic(source: Path, out: Path, voices: Sequence[str]) -> Parts:
    if not source.is_file():
        raise ModelError(f"there is no text {source}", param="source")
    texts = [line.strip() for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not texts:
        raise ModelError(f"{source} holds no sentence", param="source")
    speakers = [Speaker.parse(voice) for voice in voices]
    return {"synthetic": lambda report: speak_all(texts, speakers, out / "audio")}


@app.command()
@ended_clearly()
def encode(
    manifest: Annotated[Path, typer.Argument(help="LibriHeavy-style JSON lines, or any lhotse CutSet.")],
    out: Annotated[Path, typer.Argument(help="Folder for the shards.")],
    codec: Annotated[Path, typer.Option(help="The codec's folder or published weight file.")],
    root: Annotated[Path | None, typer.Option(help="Where relative audio paths start; the manifest's folder.")] = None,
    store: Annotated[str, typer.Option(help="codes (RVQ indices) or latents (the encoder's, fp16).")] = "codes",
    shard_mb: Annotated[float, typer.Option(help="Most MiB of codes or latents in a shard.")] = 64.0,
    share: Annotated[str, typer.Option(help="I/N: only every N-th shard from the I-th on, I from 0.")] = "0/1",
    device: Annotated[str | None, typer.Option(help="cpu, or cuda by default where there is one.")] = None,
    level: Annotated[float, typer.Option(help="RMS that every utterance gets; 0: as recorded.")] = 0.0,
    trim: Annotated[bool, typer.Option(help="Without the silence at either end.")] = False,
    lock_pitch: Annotated[bool, typer.Option(help="Re-speak at a constant pitch on the frame grid.")] = False,
    align: Annotated[bool, typer.Option(help="Find phones and phrases with pocketsphinx.")] = False,
    shortest_s: Shortest = 0.3,
    longest_s: Longest = 35.0,
    skip_bad: SkipBad = False,
) -> None:
    """Encode a corpus once, in fp32, into shards. Started again, it makes what is missing or damaged."""
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network = Codec.load(codec)
    shape = network.config
    how = Preparation(shape.sampling_rate, shape.hop_length, level, trim, lock_pitch, align=align)
    batch_s = 120.0 if where.type == "cuda" else 0.0
    encoding = Encoding(store, shard_mb, batch_s, skip_bad, Limits(shortest_s, longest_s), how)
    part, parts = _share(share)
    with run_display(0, quiet=False) as display:
        encoder = Encoder(manifest, out, network, encoding, root, where, display.say,
                          lambda done, of: display.step("shards", done, of))  # fmt: skip
        index = encoder.run(part, parts)
    if index is not None:
        typer.echo(_summary(out, index))


@app.command()
@ended_clearly()
def check(shards: Annotated[Path, typer.Argument(help="A shard folder.")]) -> None:
    """Read every shard and compare it with the index."""
    index = ShardIndex.load(shards)
    faults = []
    for entry in index.shards:
        try:
            entry.verify(shards)
        except ModelError as error:
            faults.append(str(error))
    typer.echo(_summary(shards, index))
    if faults:
        raise ModelError(f"{len(faults)} of {len(index.shards)} shards: {'; '.join(faults[:3])}")


def _summary(folder: Path, index: ShardIndex) -> str:
    megabytes = sum(entry.bytes for entry in index.shards) / 1e6
    left_out = sum(count for entry in index.shards for count, _ in entry.faults.values())
    return (
        f"{folder}: {len(index.shards)} shards of {index.store}, {index.utterances} utterances, {index.hours:.2f} h, "
        f"{megabytes:.1f} MB; {left_out} cuts left out"
    )


def _share(text: str) -> tuple[int, int]:
    first, _, of = text.partition("/")
    if not (first.isdecimal() and of.isdecimal() and int(first) < int(of)):
        raise ModelError(f"share must be I/N with I below N, got {text!r}", param="share")
    return int(first), int(of)


if __name__ == "__main__":
    app()
