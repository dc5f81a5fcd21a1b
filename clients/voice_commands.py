"""`sled-tts voices`: what `clients.voices` can do, on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sled_tts.clients.errors import SledClientError
from sled_tts.clients.local_server import running_server
from sled_tts.clients.rest import DEFAULT_URL
from sled_tts.clients.voices import VoiceClient

app = typer.Typer(no_args_is_help=True, help="Voices: list, clone from a recording, rename, delete.")

Url = Annotated[str, typer.Option("--url", envvar="SLED_TTS_URL", help="The server.")]
Key = Annotated[str | None, typer.Option("--api-key", envvar="SLED_TTS_CLIENT_KEY", help="Sent as a bearer token.")]
Named = Annotated[str, typer.Argument(help="A voice's id or name.")]


@contextmanager
def _client(url: str, key: str | None) -> Iterator[VoiceClient]:
    """Without a server at the default URL one is started for the occasion, as for `say`."""
    try:
        with running_server(url, key, start=url == DEFAULT_URL) as ready:
            yield VoiceClient(ready, key)
    except SledClientError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None


@app.command("list")
def list_voices(url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Every voice, the default one first; then the OpenAI names that stand for some of them."""
    with _client(url, api_key) as client:
        voices = client.list()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "name", "kind", "added", "description"):
        table.add_column(column)
    for voice in voices:
        if voice.alias_of is None:
            added = (
                datetime.fromtimestamp(voice.created_at).astimezone().strftime("%Y-%m-%d") if voice.created_at else ""
            )
            table.add_row(escape(voice.id), escape(voice.name), voice.kind, added, escape(voice.description))
    console = Console()
    console.print(table)
    aliases = [f"{voice.id} = {voice.alias_of}" for voice in voices if voice.alias_of is not None]
    if aliases:
        console.print(f"\nOpenAI's names: {', '.join(aliases)}", highlight=False, markup=False)


@app.command()
def add(
    recording: Annotated[Path, typer.Argument(help="One speaker, clean, a few seconds, any common format.")],
    name: Annotated[str, typer.Option("--name", help="How to ask for it.")],
    consent: Annotated[str, typer.Option("--consent", help="Who is heard, and that they agree; kept with the voice.")],
    text: Annotated[str | None, typer.Option("--text", help="What is said in the recording.")] = None,
    description: Annotated[str, typer.Option("--description", help="Shown in lists.")] = "",
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Clone a voice from a recording of somebody who agreed to it."""
    with _client(url, api_key) as client:
        voice = client.add(recording, name, consent, text, description)
    Console().print(f"{voice.id}  {voice.name}", highlight=False, markup=False)


@app.command()
def rename(
    voice: Named,
    name: Annotated[str, typer.Argument(help="The new name.")],
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Give a cloned voice another name."""
    with _client(url, api_key) as client:
        renamed = client.rename(voice, name)
    Console().print(f"{renamed.id}  {renamed.name}", highlight=False, markup=False)


@app.command()
def delete(voice: Named, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Remove a cloned voice and its recording."""
    with _client(url, api_key) as client:
        gone = client.delete(voice)
    Console().print(f"deleted {gone}", highlight=False, markup=False)
