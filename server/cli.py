"""Commands `serve` and `doctor`, offered to the console script through the entry-point group `sled_tts.commands`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from websockets.exceptions import WebSocketException

from sled_tts.model.errors import ModelError
from sled_tts.server.announce import announce, base_url
from sled_tts.server.app import create_app
from sled_tts.server.demo import speak_demo
from sled_tts.server.doctor import examine
from sled_tts.server.errors import EngineError, SledTtsError
from sled_tts.server.logs import configure_logging
from sled_tts.server.progress import working
from sled_tts.server.routes.state import AppState, state_of_app
from sled_tts.server.run import bound_port, loop_factory, make_server
from sled_tts.server.sessions.idle import IdleRules
from sled_tts.server.sessions.pauses import Pauses
from sled_tts.server.sessions.reading import UnsupportedText
from sled_tts.server.sessions.rules import SessionRules
from sled_tts.server.settings import Settings, load_settings
from sled_tts.server.voices.setup import make_transcriber, reference_rules, voices_dir

Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="built-in, a folder or a hub id; twice for an offline and a streaming checkpoint."),
]
Slots = Annotated[int | None, typer.Option("--slots", help="Streams that can run at once.")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads of the model.")]
Keys = Annotated[list[str] | None, typer.Option("--api-key", help="Refuse requests without it; repeatable.")]
Weights = Annotated[
    str | None, typer.Option("--precision", help="Weights as auto, fp32, bf16 or int8 (CPU); auto is the exact one.")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]


def serve(
    model: Models = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 for any free one.")] = None,
    slots: Slots = None,
    threads: Threads = None,
    device: Device = None,
    precision: Weights = None,
    api_key: Keys = None,
    demo: Annotated[Path | None, typer.Option("--demo", help="Speak a sentence into this wav file once ready.")] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")] = None,
) -> None:
    """Serve speech over HTTP and WebSockets. Every option is also a variable SLED_TTS_*; see docs/operations.md."""
    console = Console(stderr=True)
    settings = _settings(
        console, model=_tuple(model), host=host, port=port, slots=slots, threads=threads, device=device,
        precision=precision, api_key=_tuple(api_key), log_level=log_level,
    )  # fmt: skip
    configure_logging(settings.log_level, json=settings.log_json)
    try:
        # Not at the top: the console script loads every command, and torch is slow to import.
        with working(console, f"Loading {', '.join(settings.model)}"):
            from sled_tts.server.wiring import load_service

            service = load_service(
                settings.model,
                slots=settings.slots,
                threads=settings.threads,
                kv_memory_bytes=settings.kv_memory_bytes,
                device=settings.device,
                precision=settings.precision,
                kv_precision=settings.kv_precision,
                kernels=settings.kernels,
                melody=settings.melody,
                sessions=_session_rules(settings),
                voices_dir=voices_dir(settings),
                rules=reference_rules(settings),
                transcriber=make_transcriber(settings.voice_transcriber),
            )
        app = create_app(settings, service)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            ok = runner.run(_serve(app, settings, console, demo))
    except (SledTtsError, ModelError) as error:
        _fail(console, error)
    except KeyboardInterrupt:
        ok = True
    if not ok:
        raise typer.Exit(1)
    # Also where the parent ignores SIGINT, so that no KeyboardInterrupt follows the server's own clean end.
    console.print("stopped")


def _session_rules(settings: Settings) -> SessionRules:
    return SessionRules(
        UnsupportedText(settings.unsupported_text),
        IdleRules(settings.text_idle_flush_s, settings.text_idle_close_s),
        Pauses.of_sentences(settings.sentence_pause_s),
    )


async def _serve(app: FastAPI, settings: Settings, console: Console, demo: Path | None) -> bool:
    """Until a signal stops it. False when it never became ready or the demo failed."""
    server = make_server(app, settings)
    greeting = asyncio.create_task(_greet(server, state_of_app(app), console, demo))
    try:
        await server.serve()
    finally:
        greeting.cancel()
        await asyncio.wait({greeting})
    return greeting.cancelled() or greeting.result()


async def _greet(server: uvicorn.Server, state: AppState, console: Console, demo: Path | None) -> bool:
    """Announce the server once it has spoken. A server that cannot speak is stopped; the answer is then False."""
    settings, service = state.settings, state.service
    with working(console, "Warming up with a real synthesis"):
        await state.settled.wait()
    try:
        if state.warm_up is None:
            if state.failure is None:
                # It was stopped before, or could not listen: uvicorn has logged why.
                return False
            raise EngineError(f"the warm-up synthesis failed: {state.failure}")
        port = await _port(server)
        announce(console, settings, port, service.models, service.voices.list(), state.warm_up)
        if demo is not None:
            await _demo(settings, port, console, demo)
    except (SledTtsError, OSError, WebSocketException) as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}")
        server.should_exit = True
        return False
    return True


async def _port(server: uvicorn.Server) -> int:
    """The warm-up may be over before the socket is bound."""
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event for it
        await asyncio.sleep(0.01)
    return bound_port(server)


async def _demo(settings: Settings, port: int, console: Console, path: Path) -> None:
    url = base_url(settings, port).replace("http", "ws", 1) + "/v1/stream"
    with working(console, f"Speaking a sentence into {path}"):
        spoken = await speak_demo(url, settings.api_key[0] if settings.api_key else None, path)
    rtf = "-" if spoken.rtf is None else f"{spoken.rtf:.2f}"
    console.print(
        f"[bold green]{escape(str(path))}[/]: {spoken.seconds:.1f} s of speech, TTFA {spoken.ttfa_s * 1000:.0f} ms, "
        f"RTF {rtf}; first audio {'before' if spoken.before_last_word else 'after'} the last word was sent"
    )
    if spoken.finish_reason != "stop":
        console.print(f"[yellow]the sentence ended by {spoken.finish_reason}, not by the model[/]")


def doctor(model: Models = None, device: Device = None, threads: Threads = None, precision: Weights = None) -> None:
    """Check device, weights, codec and a real synthesis, and say what is slow and why. Exit code 1 on failure."""
    console = Console()
    settings = _settings(
        console, model=_tuple(model), device=device, threads=threads, precision=precision, log_level="warning"
    )
    configure_logging(settings.log_level, json=settings.log_json)
    if not examine(settings, console):
        raise typer.Exit(1)


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values else None


def _settings(console: Console, **given: Any) -> Settings:
    try:
        return load_settings(None, **given)
    except ValidationError as error:
        first = error.errors()[0]
        _fail(console, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}", code=2)
    except SledTtsError as error:
        _fail(console, error, code=2)


def _fail(console: Console, error: object, code: int = 1) -> NoReturn:
    console.print(f"[bold red]error:[/] {escape(str(error))}")
    raise typer.Exit(code)
