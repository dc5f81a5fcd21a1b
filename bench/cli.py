"""`sled-tts bench`, offered to the console script through the entry-point group `sled_tts.commands`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Measure: every command ends with a line of JSON.")

Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads; unset lets torch decide.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw into this file (png, svg, pdf).")]
Seed = Annotated[int, typer.Option("--seed", help="Of weights, texts and noise.")]
Weights = Annotated[str, typer.Option("--precision", help="fp32, bf16 or int8.")]

# Scripts that read their own arguments.
_SCRIPTS = {
    "engine": "Host time of a step with a model that computes nothing.",
    "load": "Clients against a running server: first audio, gaps, underruns.",
    "sweep": "How many streams before the first underrun.",
    "soak": "Mixed load with abrupt disconnects for a long time.",
    "interruption": "Cancel, clear, close, leave: milliseconds to the last byte, every protocol.",
    "encoders": "Audio formats: CPU time, longest call, speech held back before the first sound.",
    "timings": "Word times against a forced aligner.",
    "longtext": "A long text through a live server: every sentence once, memory by minute.",
    "seams": "What a seam between two segments does to the sound.",
    "likeness": "Cloned voices against their recordings and against other voices.",
    "pauses": "A slow writer: nothing invented while text is missing, the same samples in the end.",
    "gpu": "Kernels and graphs against eager fp32, and the rows of a GPU.",
}


@app.command()
def reference(
    checkout: Annotated[Path, typer.Option("--checkout", help="A checkout of ictnlp/SLED-TTS.")],
    python: Annotated[str | None, typer.Option("--python", help="One with torch and transformers 4.47.")] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", help="Streams at once; repeatable.")] = None,
    frames: Annotated[int, typer.Option("--frames", min=10, help="Frames of an utterance.")] = 41,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns each implementation gets.")] = 3,
    cfg_scale: Annotated[float, typer.Option("--cfg-scale", help="1 is unguided.")] = 2.0,
    threads: Threads = None,
    precision: Weights = "fp32",
    mode: Annotated[list[str] | None, typer.Option("--mode", help="offline, streaming; repeatable.")] = None,
    seed: Seed = 0,
) -> None:
    """The public implementation and ours, same weights and inputs, in turns."""
    from sled_tts.bench.reference import MODES, compare
    from sled_tts.model.quantization import Precision

    modes = [name for name in MODES if name in (mode or MODES)]
    held = Precision(precision)
    compare(checkout, python, batch or (1, 4, 16), frames, rounds, threads, held, cfg_scale, seed, modes)


@app.command()
def step(
    model: Annotated[
        str, typer.Option("--model", help="published (random weights), built-in, a folder.")
    ] = "published",
    batch: Annotated[list[int] | None, typer.Option("--batch", help="Streams at once; repeatable.")] = None,
    context: Annotated[list[int] | None, typer.Option("--context", help="Positions held; repeatable.")] = None,
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="Measurements of 8 steps each.")] = 5,
    profile: Annotated[bool, typer.Option("--profile", help="Also say where the time goes.")] = False,
    threads: Threads = None,
    precision: Weights = "fp32",
    plot: Plot = None,
    seed: Seed = 0,
) -> None:
    """Milliseconds a step by batch and context, and the share of what memory allows."""
    from sled_tts.bench.step import measure
    from sled_tts.model.quantization import Precision

    batches, contexts = batch or (1, 2, 4, 8, 16), context or (64, 256, 768)
    measure(model, Precision(precision), batches, contexts, blocks, threads, seed, plot, profile)


@app.command()
def codec(
    folder: Annotated[Path | None, typer.Option("--codec", help="Folder or weight file; unset is random.")] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", help="Streams at once; repeatable.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Audio of the offline row.")] = 6.0,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    threads: Threads = None,
    plot: Plot = None,
    seed: Seed = 0,
) -> None:
    """Streaming decode by chunk length and batch, beside offline decode."""
    from sled_tts.bench.codec import BATCHES, run

    run(folder, batch or BATCHES, seconds, threads, device, seed, plot)


@app.command()
def precision(
    model: Annotated[
        str, typer.Option("--model", help="built-in, a folder, a hub id, published (random).")
    ] = "built-in",
    count: Annotated[int, typer.Option("--count", min=1, help="Held-out sentences.")] = 42,
    candidates: Annotated[int, typer.Option("--candidates", min=2, help="Sentences of the closed set.")] = 300,
    cfg_scale: Annotated[float, typer.Option("--cfg-scale", help="1 is unguided.")] = 2.0,
    only: Annotated[list[str] | None, typer.Option("--only", help="fp32, bf16 or int8; repeatable.")] = None,
    threads: Threads = None,
    seed: Seed = 0,
) -> None:
    """What bf16 and int8 weights cost against fp32: latents, recognition, speaker similarity."""
    from sled_tts.bench.precision import compare
    from sled_tts.model.quantization import Precision

    compare(model, count, candidates, seed, cfg_scale, threads, [Precision(name) for name in only or ()])


@app.command()
def kernels(
    row: Annotated[list[int] | None, typer.Option("--rows", help="Rows of a product; repeatable.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Measurements of each.")] = 7,
    threads: Threads = 1,
    seed: Seed = 0,
) -> None:
    """Matrix products that could carry a step, over every weight of the backbone."""
    from sled_tts.bench.kernels import run

    run(row or (2, 4, 8, 16), rounds, threads, seed)


@app.command()
def stream(
    model: Annotated[str, typer.Option("--model", help="published (random), built-in, a folder.")] = "published",
    seconds: Annotated[float, typer.Option("--seconds", help="Audio after the first chunk.")] = 2.0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Times to speak.")] = 5,
    threads: Threads = None,
    precision: Weights = "fp32",
    seed: Seed = 0,
) -> None:
    """First audio and RTF of one stream, codec included, without server."""
    from sled_tts.bench.stream import run
    from sled_tts.model.quantization import Precision

    run(model, Precision(precision), seconds, rounds, threads, seed)


def _mount(name: str, about: str) -> None:
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    @app.command(name, help=about, context_settings=settings)
    def run(context: typer.Context) -> None:
        sys.argv = [f"sled-tts bench {name}", *context.args]
        code = importlib.import_module(f"sled_tts.bench.{name}").main()
        raise typer.Exit(code or 0)


for _name, _about in _SCRIPTS.items():
    if importlib.util.find_spec(f"sled_tts.bench.{_name}") is not None:
        _mount(_name, _about)
