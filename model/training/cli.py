"""`sled-tts train ...`: from a text file to a voice the server speaks with."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file

from sled_tts.model.checkpoint import load_sled_state, resolve, save_bundle
from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.config import GeneratorConfig, SledConfig
from sled_tts.model.cores import usable_cores
from sled_tts.model.errors import ModelError
from sled_tts.model.melody.melody import FILE as MELODY
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import SPECIAL, Tokenizer, train_tokenizer
from sled_tts.model.training.averaging import average_checkpoints
from sled_tts.model.training.batches import Corpus, encode_corpus
from sled_tts.model.training.codec_loop import CodecReport, CodecTraining, train_codec
from sled_tts.model.training.display import ended_clearly, run_display
from sled_tts.model.training.finishing import add_melody, known_speech
from sled_tts.model.training.loop import SledTraining, StepReport, train_sled
from sled_tts.model.training.melody import MelodyReport, MelodyTraining, train_contour
from sled_tts.model.training.pipeline import Pipeline
from sled_tts.model.training.polish import Polish, PolishReport, polish_decoder
from sled_tts.model.training.recipe import find_recipe, read_recipe, with_codec, with_data, with_paths_from
from sled_tts.model.training.synthetic import read_pitches, synthesise_corpus
from sled_tts.model.training.workers import Workers

app = typer.Typer(help="Train a voice.")

Work = Annotated[Path, typer.Argument(help="Working folder; every step reads and writes here.")]


def small_codec_config() -> CodecConfig:
    """16 kHz, 50 latents of 64 dimensions a second."""
    return CodecConfig(sampling_rate=16_000, dimension=64, n_filters=16, ratios=(8, 5, 4, 2), codebook_size=256, n_q=8)


def small_sled_config(vocab_size: int) -> SledConfig:
    """6.4 M parameters, reading 8 bytes of text for every 14 frames (0.28 s) it writes."""
    return SledConfig(
        hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=4, vocab_size=vocab_size,
        latent_dim=64, generator=GeneratorConfig(depth=3, width=256, noise_channels=64),
        max_position_embeddings=1024, training_cfg=0.1, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        stream_n=8, stream_m=14,
    )  # fmt: skip


def _show(report: CodecReport | MelodyReport | PolishReport | StepReport) -> None:
    typer.echo(json.dumps(asdict(report)))


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    config: Annotated[str | None, typer.Option(help="A recipe (TOML), or the name of one that comes along.")] = None,
    data: Annotated[Path | None, typer.Option(help="Train on this manifest, shard folder or text instead.")] = None,
    codec: Annotated[Path | None, typer.Option(help="Take this codec; polish and tune train its decoder.")] = None,
    work: Annotated[Path, typer.Option(help="Working folder of the recipe.")] = Path("work"),
    device: Annotated[str | None, typer.Option(help="cpu, or cuda by default where there is one.")] = None,
) -> None:
    """Train a voice: a whole recipe, or stage by stage. Killed and started again, it goes on."""
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise typer.BadParameter("pass --config RECIPE.toml, or a stage (see --help)")
    with ended_clearly():
        path = find_recipe(config)
        recipe = with_paths_from(read_recipe(path), path.resolve().parent)
        recipe = recipe if data is None else with_data(recipe, data)
        recipe = recipe if codec is None else with_codec(recipe, codec)
        workers = Workers.from_environment(device)
        with run_display(recipe.training.steps, quiet=not workers.leads) as display:
            folder = Pipeline(recipe, work, workers, display.say, display.report, display.step).run()
    if workers.leads:
        typer.echo(f"wrote {folder}; sled-tts serve --model {folder}")


@app.command()
@ended_clearly()
def corpus(work: Work, texts: Annotated[Path, typer.Argument(help="One sentence a line.")]) -> None:
    """Let flite read the sentences at a pitch locked to the frame grid."""
    lines = [line.strip() for line in texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    count, hours = synthesise_corpus(lines, work / "corpus", hop=small_codec_config().hop_length)
    typer.echo(f"{count} of {len(lines)} utterances, {hours:.2f} h")


@app.command()
@ended_clearly()
def recordings(
    work: Work,
    manifest: Annotated[Path, typer.Argument(help="LibriHeavy-style JSON lines, or any lhotse CutSet.")],
    root: Annotated[Path | None, typer.Option(help="Where relative audio paths start; the manifest's folder.")] = None,
    longest_s: Annotated[float, typer.Option(help="Longer cuts are reported, not shortened.")] = 35.0,
    lock_pitch: Annotated[bool, typer.Option(help="Re-speak at a constant pitch on the frame grid.")] = True,
    align: Annotated[bool, typer.Option(help="Find phones and phrases with pocketsphinx.")] = True,
    skip_bad: Annotated[bool, typer.Option(help="Go on without the cuts that cannot be used.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; unset: one for each core.")] = None,
) -> None:
    """Make a corpus of recorded speech from a manifest."""
    # Here, so that synthetic training needs none of the train extra.
    from sled_tts.model.training.manifests import Limits, read_manifest
    from sled_tts.model.training.recordings import Preparation, prepare_recordings

    cuts, report = read_manifest(manifest, Limits(longest_s=longest_s), root)
    typer.echo(str(report))
    if report.problems and not skip_bad:
        raise ModelError("some cuts cannot be used; mend them, or pass --skip-bad to go on without them")
    how = Preparation(hop=small_codec_config().hop_length, lock_pitch=lock_pitch, align=align)
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("recordings", total=len(cuts))
        count, hours = prepare_recordings(
            cuts, work / "corpus", how, lambda done: progress.update(bar, completed=done), jobs or usable_cores()
        )
    typer.echo(f"{count} utterances, {hours:.2f} h")


@app.command()
@ended_clearly()
def codec(
    work: Work, steps: int = 6000, resume: bool = False, freeze_encoder: bool = False, quantize: bool = False
) -> None:
    """Train the codec (`--resume` continues; `--freeze-encoder` improves the decoder under fixed latents;
    `--quantize` trains through the residual quantiser)."""
    folder = work / "codec"
    training = replace(CodecTraining(), steps=steps, freeze_encoder=freeze_encoder, quantize=quantize)
    start = Codec.load(folder) if resume else None
    train_codec(work / "corpus", small_codec_config(), training, folder, start=start, report=_show)


@app.command()
@ended_clearly()
def polish(work: Work, steps: int = Polish.steps, corpus: str = "corpus") -> None:
    """Train the codec's decoder against a discriminator; latents stay, so a trained network stays valid."""
    folder = work / "codec"
    polish_decoder(work / corpus, Codec.load(folder), replace(Polish(), steps=steps), folder, report=_show)


@app.command()
@ended_clearly()
def encode(work: Work) -> None:
    """Encode the corpus once."""
    encode_corpus(work / "corpus", Codec.load(work / "codec"), work / "latents.npy")


@app.command()
@ended_clearly()
def melody(work: Work, steps: int = MelodyTraining.steps) -> None:
    """Train what gives speech at a locked pitch the pitch that the recordings had; needs their latents."""
    training, rate = MelodyTraining(steps=steps), small_codec_config().frame_rate
    train_contour(work / "corpus", work / "latents.npy", training, work / MELODY, frame_rate=rate, report=_show)


@app.command()
@ended_clearly()
def tokenizer(work: Work, texts: Path, vocab_size: int = len(SPECIAL) + 256) -> None:
    """Train a byte-level BPE; the default size is bytes only."""
    train_tokenizer(texts.read_text(encoding="utf-8").splitlines(), vocab_size).save(work / "tokenizer")


@app.command()
@ended_clearly()
def sled(work: Work, steps: int = 6000, resume: bool = False) -> None:
    """Train the network and write a folder that `sled-tts serve --model` speaks with."""
    vocabulary = Tokenizer.load(work / "tokenizer")
    config = small_sled_config(vocabulary.vocab_size)
    most = config.max_position_embeddings
    data = Corpus.open(work / "corpus", work / "latents.npy", vocabulary, config.stream_n, config.stream_m, most)
    if data.left_out:
        typer.echo(f"{data.left_out} utterances are left out: too long, or over before their text is read")
    start = None
    if resume:
        start = Sled(config)
        load_sled_state(start, load_file(work / "sled.safetensors"))
    model = train_sled(data, config, SledTraining(steps=steps), work / "sled.safetensors", report=_show, start=start)
    extras = {
        "name": "sled-tts-small",
        "latent_mean": data.mean.tolist(),
        "latent_std": data.std,
        "max_segment_chars": 80,
        "max_frames_per_token": 10.0,
    }
    voice = work / "voice"
    if read_pitches(work / "corpus") is not None:
        # Here, so that synthetic training needs none of the train extra.
        from sled_tts.model.training.recordings import Preparation

        extras |= known_speech(asdict(Preparation()))
        if (work / MELODY).exists():
            voice.mkdir(exist_ok=True)
            extras |= add_melody(work / MELODY, MelodyTraining(), voice)
    save_bundle(voice, model, vocabulary, Codec.load(work / "codec"), extras, dtype=torch.float16)
    typer.echo(f"wrote {voice}")


@app.command()
@ended_clearly()
def average(
    out: Annotated[Path, typer.Argument(help="The checkpoint to write; must not be there yet.")],
    models: Annotated[list[str], typer.Argument(help="Checkpoints that were trained on from the same one.")],
    weight: Annotated[list[float] | None, typer.Option(help="One for each, in order; all alike by default.")] = None,
) -> None:
    """Write the mean of several networks, which often speaks better than each."""
    average_checkpoints([resolve(model) for model in models], out, weight or ())
    typer.echo(f"wrote {out}; for word timings: python -m sled_tts.model.training.alignment_heads {out} --write")


if __name__ == "__main__":
    app()
