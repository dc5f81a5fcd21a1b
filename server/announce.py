"""What an operator sees when the server starts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sled_tts.server.service import LoadedModel, Voice, VoiceKind, WarmUp
from sled_tts.server.settings import Settings

# More voices than this are counted, not named.
_NAMED = 8


def base_url(settings: Settings, port: int) -> str:
    """An address a browser on this machine can open."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def curl_line(settings: Settings, url: str) -> str:
    """A command to copy; it refers to a key, the first where there are several, and does not show it."""
    key = ' -H "Authorization: Bearer ${SLED_TTS_API_KEY%%,*}"' if settings.api_key else ""
    return (
        f"curl -s {url}/v1/audio/speech -H 'Content-Type: application/json'{key} "
        """-d '{"input": "Hello, this is a first sentence."}' -o hello.mp3"""
    )


def voice_line(voices: Sequence[Voice]) -> str:
    """Who can speak, the default one first."""
    built_in = [voice.id for voice in voices if voice.kind is VoiceKind.BUILT_IN]
    named = ", ".join(built_in[:_NAMED]) + (f" and {len(built_in) - _NAMED} more" if len(built_in) > _NAMED else "")
    line = f"{named} (default: {built_in[0]})" if len(built_in) > 1 else named
    cloned = len(voices) - len(built_in)
    return f"{line} and {cloned} cloned" if cloned else line


def announce(
    console: Console,
    settings: Settings,
    port: int,
    models: tuple[LoadedModel, ...],
    voices: Sequence[Voice],
    warm: WarmUp,
) -> None:
    """Models, voices, addresses, and what the warm-up synthesis measured."""
    url = base_url(settings, port)
    table = Table.grid(padding=(0, 2))
    for model in models:
        pacing = f", {model.n}:{model.m}" if model.n else ""
        table.add_row(
            "Model",
            f"{model.name} ({model.kind}{pacing}, {model.parameters / 1e6:.1f} M parameters, "
            f"{model.sampling_rate} Hz, {model.device}, {model.slots} streams)",
        )
    table.add_row("Voice" if len(voices) == 1 else "Voices", voice_line(voices))
    table.add_row("Page", Text(f"{url}/", style="bold cyan"))
    table.add_row("Docs", f"{url}/docs")
    table.add_row("Stream", f"{url.replace('http', 'ws', 1)}/v1/stream")
    keys = f"{len(settings.api_key)} set" if settings.api_key else "none: everyone who can connect may speak"
    table.add_row("Keys", keys)
    table.add_row("Warm-up", f"TTFA {warm.ttfa_s * 1000:.0f} ms, RTF {warm.rtf:.2f} ({warm.audio_s:.1f} s of speech)")
    console.print(Panel(Group(table), title="sled-tts is ready", border_style="green"))
    # Outside the panel and unwrapped, so that it can be copied whole.
    console.print(curl_line(settings, url), soft_wrap=True, highlight=False, markup=False)
