"""The `sled-tts` command: `say`, `stream` and `voices` here, `serve`, `doctor`, `train` from installed extras."""

from __future__ import annotations

import asyncio
import codecs
import os
import sys
from collections.abc import AsyncIterator, Iterable
from importlib.metadata import entry_points
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sled_tts.clients.errors import SledClientError
from sled_tts.clients.local_server import running_server
from sled_tts.clients.playback import Sink, open_sink
from sled_tts.clients.rest import DEFAULT_URL
from sled_tts.clients.streaming import AsyncSledClient, Done, Pcm, Started
from sled_tts.clients.voice_commands import app as voice_app

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Speech that starts before the sentence ends.")
app.add_typer(voice_app, name="voices")
console = Console(stderr=True)

Url = Annotated[str, typer.Option("--url", envvar="SLED_TTS_URL", help="The server.")]
Key = Annotated[str | None, typer.Option("--api-key", envvar="SLED_TTS_CLIENT_KEY", help="Sent as a bearer token.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="FILE.wav, or - for standard output.")]
Seed = Annotated[int | None, typer.Option(help="Same text and seed, same audio.")]
Spoken = Annotated[str | None, typer.Option("--voice", help="A voice's id or name; `sled-tts voices list`.")]
Cfg = Annotated[float | None, typer.Option("--cfg-scale", help="Classifier-free guidance.")]


async def _speak(
    url: str, key: str | None, text: AsyncIterator[str] | Iterable[str], output: str | None, **start: object
) -> Done:
    """Stream text in and audio out. Returns the final event; a cut utterance raises SledClientError."""
    sink: Sink | None = None
    done: Done | None = None
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("waiting for text")
            seconds, rate = 0.0, 1
            async for event in AsyncSledClient(url, key).stream(text, **start):
                if isinstance(event, Started):
                    rate = event.sample_rate
                    sink = open_sink(output, rate)
                elif isinstance(event, Pcm) and sink is not None:
                    await asyncio.to_thread(sink.write, event.data)
                    seconds += len(event.data) / 2 / rate
                    progress.update(task, description=f"{seconds:.1f} s of speech")
                elif isinstance(event, Done):
                    done = event
    finally:
        if sink is not None:
            await asyncio.to_thread(sink.close)
    if done is None:
        raise SledClientError("the server sent no end")
    if done.finish_reason != "stop":
        raise SledClientError(f"the speech is not complete: {done.finish_reason}")
    return done


def _report(done: Done) -> None:
    ttfa = "-" if done.ttfa_s is None else f"{done.ttfa_s * 1000:.0f} ms"
    rtf = "-" if done.rtf is None else f"{done.rtf:.2f}"
    console.print(f"{done.duration_s:.2f} s of speech, first audio after {ttfa}, RTF {rtf}")


def _run(
    url: str, key: str | None, text: AsyncIterator[str] | Iterable[str], output: str | None, **start: object
) -> None:
    try:
        with running_server(url, key, start=url == DEFAULT_URL) as ready:
            _report(asyncio.run(_speak(ready, key, text, output, **start)))
    except SledClientError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        raise typer.Exit(1) from None


@app.command()
@app.command("stream", help="Say what arrives on standard input, as it arrives: `llm ... | sled-tts stream`.")
def say(
    text: Annotated[str | None, typer.Argument(help="What to say; without it, what arrives on standard input.")] = None,
    output: Output = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    voice: Spoken = None,
    seed: Seed = None,
    cfg_scale: Cfg = None,
) -> None:
    """Say a text aloud, or write it to a file.

    Uses the server at --url; without one, a server is started for the occasion when it is installed.
    """
    words = _standard_input() if text is None else [text]
    _run(url, api_key, words, output, voice=voice, seed=seed, cfg_scale=cfg_scale)


async def _standard_input() -> AsyncIterator[str]:
    """Deltas as the pipe delivers them; a character cut between two reads is held until it is whole."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    descriptor = sys.stdin.fileno()
    while data := await asyncio.to_thread(os.read, descriptor, 4096):
        if text := decoder.decode(data):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def _add_installed_commands() -> None:
    """Commands of other parts, so that clients import neither server nor model."""
    for point in sorted(entry_points(group="sled_tts.commands"), key=lambda p: p.name):
        # Loading a part costs seconds (torch): only when it is the one asked for, or for help.
        if not {point.name, "--help"} & set(sys.argv[1:2]) and len(sys.argv) > 1:
            continue
        try:
            command = point.load()
        except ImportError as error:
            console.print(f"[yellow]{point.name} is not available: {error}[/yellow]", highlight=False)
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=point.name)
        else:
            app.command(name=point.name)(command)


_add_installed_commands()

if __name__ == "__main__":
    app()
