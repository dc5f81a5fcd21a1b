"""What a machine makes of a model: device, weights, codec, a real synthesis, and what is slow and why."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sled_tts.model.errors import ModelError
from sled_tts.model.native.library import describe
from sled_tts.server.errors import SledTtsError, UnsupportedError
from sled_tts.server.progress import working
from sled_tts.server.routes.studio import studio_folder
from sled_tts.server.service import LoadedModel, Reference, SpeechService, UtteranceOptions, WarmUp
from sled_tts.server.settings import Settings
from sled_tts.server.voices.folder import VoiceFolder
from sled_tts.server.voices.setup import voices_dir

T = TypeVar("T")
_WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
_SMALLER = {"fp32": "--precision int8, a smaller model", "bf16": "--precision int8", "int8": "A smaller model"}
_BUZZ_HZ = 120.0
_PACKAGES = ("torch", "tokenizers", "safetensors", "fastapi", "uvicorn", "websockets", "soxr", "soundfile")


@dataclass
class Findings:
    """Checks in order: name, whether it passed, what was seen; and remarks on speed."""

    console: Console
    rows: list[tuple[str, bool, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(passed for _, passed, _ in self.rows)

    def check(self, name: str, run: Callable[[], T], describe: Callable[[T], str]) -> T | None:
        """Run one check under a progress bar; a failure is a row, and the answer None."""
        try:
            with working(self.console, name):
                value = run()
        except (SledTtsError, ModelError, OSError, RuntimeError, ImportError) as error:
            self.rows.append((name, False, f"{type(error).__name__}: {error}"))
            return None
        self.rows.append((name, True, describe(value)))
        return value


def examine(settings: Settings, console: Console) -> bool:
    """Print what was found; False when something failed."""
    found = Findings(console)
    found.check("Packages", _versions, str)
    found.check("Steps on a CPU", describe, str)
    bandwidth = found.check("Memory", memory_bandwidth, lambda rate: f"one thread moves {rate / 1e9:.1f} GB/s")
    kept = found.check(
        "Voices", VoiceFolder(voices_dir(settings)).scan, lambda scan: f"{len(scan.entries)} cloned ones are kept"
    )
    if kept is not None:
        found.remarks += [f"The cloned voice {name} is left out: {why}." for name, why in kept.problems.items()]
    service = found.check("Weights and codec", lambda: _load(settings), _describe)
    if service is not None:
        try:
            found.check(
                "Codec", lambda: asyncio.run(_clone(service)), lambda s: f"a voice prompt of 1 s in {s * 1000:.0f} ms"
            )
            first = found.check("First synthesis", lambda: asyncio.run(service.warm_up()), _figures)
            warm = found.check("Synthesis", lambda: asyncio.run(service.warm_up()), _figures)
            if first is not None and warm is not None:
                found.remarks += speed_remarks(service.models, first, warm, bandwidth)
        finally:
            service.close()
    if studio_folder() is None:
        found.remarks.append("The page at / is not part of this installation.")
    _report(found)
    return found.ok


def memory_bandwidth(megabytes: int = 64, rounds: int = 5) -> float:
    """Bytes a second that one thread moves: best of `rounds` copies of a block larger than the caches."""
    source = np.ones(megabytes * 2**20 // 4, np.float32)
    target = np.empty_like(source)
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best


def speed_remarks(
    models: tuple[LoadedModel, ...], first: WarmUp, warm: WarmUp, bandwidth: float | None, load: float | None = None
) -> list[str]:
    """What is slow and why, in sentences. `bandwidth` in bytes a second, `load` runnable processes on the machine."""
    remarks = []
    model = next(m for m in models if m.name == warm.model)
    if model.thread_times:
        measured = ", ".join(f"{threads}: {seconds * 1000:.1f} ms" for threads, seconds in model.thread_times)
        remarks.append(f"CPU threads: {model.threads}, by measurement (four frames with {measured}).")
    cores = os.cpu_count() or 1
    if warm.rtf < 1.0:
        remarks.append(f"Fast enough: {warm.rtf:.2f} s of work for a second of speech.")
    else:
        remarks.append(f"Too slow: {warm.rtf:.2f} s of work for a second of speech; listeners will hear gaps.")
    if bandwidth is not None and model.device.startswith("cpu"):
        read = model.parameters * _WEIGHT_BYTES[model.precision]
        floor = read * model.frame_rate / bandwidth
        if floor > 0.1 * warm.rtf:
            remarks.append(
                f"Every step reads {read / 1e6:.0f} MB of weights ({model.precision}); memory alone allows "
                f"RTF {floor:.2f} on one thread. {_SMALLER[model.precision]} or a GPU is what helps."
            )
        else:
            remarks.append(
                f"Memory would allow RTF {floor:.3f}: time goes into arithmetic and into the host's work for each step."
            )
    running = load if load is not None else (os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)
    if running > cores:
        remarks.append(f"The machine is busy: load {running:.1f} on {cores} cores. Other programs slow this one down.")
    if first.ttfa_s > 2 * warm.ttfa_s:
        remarks.append(
            f"First audio took {first.ttfa_s * 1000:.0f} ms the first time and {warm.ttfa_s * 1000:.0f} ms the second: "
            "that is warm-up, which a server does before it reports ready."
        )
    return remarks


def _versions() -> str:
    found = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores; " + ", ".join(found)


def _load(settings: Settings) -> SpeechService:
    from sled_tts.server.wiring import load_service

    return load_service(
        settings.model, slots=2, threads=settings.threads, device=settings.device, precision=settings.precision
    )


async def _clone(service: SpeechService) -> float:
    """Encode a recording as for a voice clone; seconds it took. What the clone would say is not waited for.

    A checkpoint that takes no prompts refuses it only after that.
    """
    rate = service.models[0].sampling_rate
    # A buzz: where a checkpoint has a melody, a recording without a pitch is refused.
    overtones = np.arange(1, 16)[:, None]
    phase = 2 * np.pi * _BUZZ_HZ * np.arange(rate) / rate
    recording = (0.1 / overtones * np.sin(overtones * phase)).sum(axis=0).astype(np.float32)
    began = time.perf_counter()
    with suppress(UnsupportedError):
        (await service.speak("a", UtteranceOptions(seed=0), Reference(recording, rate, "a"))).cancel()
    return time.perf_counter() - began


def _describe(service: SpeechService) -> str:
    return "; ".join(
        f"{m.name}: {m.kind}, {m.parameters / 1e6:.1f} M parameters, {m.positions} positions, "
        f"codec {m.sampling_rate} Hz at {m.frame_rate:g} frames a second, on {m.device} in {m.precision}, "
        f"{m.stream_bytes / 1e6:.1f} MB a stream of {m.positions / m.frame_rate:.0f} s"
        for m in service.models
    )


def _figures(warm: WarmUp) -> str:
    return f"{warm.model}: TTFA {warm.ttfa_s * 1000:.0f} ms, RTF {warm.rtf:.3f}, {warm.audio_s:.2f} s of speech"


def _report(found: Findings) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, passed, seen in found.rows:
        table.add_row("[green]ok[/]" if passed else "[bold red]failed[/]", name, escape(seen))
    found.console.print(table)
    for remark in found.remarks:
        found.console.print(f"- {escape(remark)}", highlight=False)
