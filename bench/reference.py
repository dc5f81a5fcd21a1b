"""The public ictnlp/SLED-TTS implementation and ours: same random weights, same texts, same noise, in turns.

Theirs runs in a process of its own (`reference_worker`), with any Python that has torch and transformers 4.47, ours
is the server's runner; only one works at a time. A step is one frame of all streams, codec excluded. Their streaming
mode speaks one stream at a time, so several cost several times one.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import IO, Any

import torch
from torch import Tensor

from sled_tts.bench.common import Spread, finish, introduce, machine, show
from sled_tts.bench.shapes import published, random_codec, random_sled
from sled_tts.bench.speakers import Speakers
from sled_tts.model.config import SledConfig
from sled_tts.model.native.library import describe
from sled_tts.model.quantization import Precision
from sled_tts.model.sled import Sled
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.state import NOISE_BLOCK

MODES = ("offline", "streaming")
_TOKENS = 40
# Differences grow from frame to frame, since each feeds the next: only the first are compared.
_COMPARED = 8
_REFERENCE_ONLY = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "hidden_act": "silu"}


@dataclass(frozen=True)
class Case:
    streaming: bool
    batch: int
    seed: int
    frames: int
    cfg_scale: float

    @property
    def name(self) -> str:
        return f"{'streaming' if self.streaming else 'offline'} x{self.batch}"

    @property
    def texts(self) -> list[list[int]]:
        rng = torch.Generator().manual_seed(self.seed + self.batch)
        ids: Tensor = torch.randint(4, 16384, (self.batch, _TOKENS - 2), generator=rng)
        return [[0, *row, 2] for row in ids.tolist()]

    @property
    def seeds(self) -> list[int]:
        return [self.seed + row for row in range(self.batch)]


@dataclass
class Times:
    """Milliseconds a step, on the wall clock and of processor time: means of `NOISE_BLOCK` steps, since ours computes
    the modulation for so many at once."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, steps: Sequence[Sequence[float]], streams: int = 1) -> Times:
        """From wall and processor seconds a frame, `streams` times as much where they come one after another."""
        blocks = [steps[at : at + NOISE_BLOCK] for at in range(0, len(steps) - NOISE_BLOCK + 1, NOISE_BLOCK)]
        wall, cpu = ([1000 * streams * fmean(step[kind] for step in block) for block in blocks] for kind in (0, 1))
        return cls(wall, cpu)

    def add(self, other: Times) -> None:
        self.wall += other.wall
        self.cpu += other.cpu


class Worker:
    """The other process; `run` is one utterance for each text."""

    def __init__(self, process: subprocess.Popen[str], answers: IO[str], folder: Path) -> None:
        self._process, self._answers, self._latents = process, answers, folder / "latents.pt"
        self.versions = self._ask(None)

    def _ask(self, message: Any) -> Any:
        assert self._process.stdin is not None
        if message is not None:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        answer = self._answers.readline()
        if not answer:
            raise SystemExit("the reference implementation ended early; its messages are above")
        return json.loads(answer)

    def run(self, case: Case) -> tuple[list[list[float]], Tensor]:
        """Wall and processor seconds of each step, and latents `[B, frames, D]`; streaming runs the first text."""
        rows = 1 if case.streaming else case.batch
        times = self._ask(
            {
                "streaming": case.streaming, "ids": case.texts[:rows], "seeds": case.seeds[:rows],
                "frames": case.frames, "cfg_scale": case.cfg_scale, "latents": str(self._latents),
            }
        )  # fmt: skip
        return times, torch.load(self._latents, weights_only=True)


@contextlib.contextmanager
def reference(python: str, checkout: Path, sled: Sled, threads: int) -> Iterator[Worker]:
    """The reference over the weights of `sled`. Needs them unreleased."""
    if not (checkout / "sled" / "sled_stream.py").is_file():
        raise SystemExit(f"{checkout} is no checkout of ictnlp/SLED-TTS: sled/sled_stream.py is missing")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(dict(sled.state_dict()), weights)
        command = [python, str(Path(__file__).with_name("reference_worker.py"))]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                start = {
                    "checkout": str(checkout.resolve()), "weights": str(weights), "threads": threads,
                    "offline": _reference_config(published(None, None)), "streaming": _reference_config(published()),
                }  # fmt: skip
                process.stdin.write(json.dumps(start) + "\n")
                process.stdin.flush()
                yield Worker(process, process.stdout, Path(folder))
            finally:
                process.kill()


def _reference_config(config: SledConfig) -> dict[str, Any]:
    return config.to_dict() | _REFERENCE_ONLY


def run_ours(runner: SledRunner, case: Case) -> tuple[list[list[float]], Tensor]:
    """As `Worker.run`, but all texts in both modes."""
    speakers = Speakers(runner, case.texts, case.seeds, streaming=case.streaming, cfg_scale=case.cfg_scale)
    ends = []
    for _ in range(case.frames):
        speakers.step()
        ends.append((time.perf_counter(), time.process_time()))
    times = [[b[0] - a[0], b[1] - a[1]] for a, b in pairwise(ends)]
    return times, torch.stack([speakers.latents(slot, case.frames) for slot in range(case.batch)])


def compare(
    checkout: Path,
    python: str | None = None,
    batches: Sequence[int] = (1, 4, 16),
    frames: int = 41,
    rounds: int = 3,
    threads: int | None = None,
    precision: Precision = Precision.FP32,
    cfg_scale: float = 2.0,
    seed: int = 0,
    modes: Sequence[str] = MODES,
) -> None:
    """Run every case of `modes` `rounds` times in turns and print milliseconds a step and their ratio."""
    torch.set_num_threads(threads or torch.get_num_threads())
    sled = random_sled(published(), seed).prepare_for_inference(precision)
    latent = sled.config.latent_dim
    positions = _TOKENS + frames + 2
    runner = SledRunner(
        sled, random_codec(), torch.zeros(latent), torch.ones(latent), slots=max(batches), positions=positions
    )
    results = []
    with reference(python or sys.executable, checkout, sled, torch.get_num_threads()) as worker:
        about = machine() | {"seed": seed, "precision": str(precision), "cfg_scale": cfg_scale, "frames": frames}
        about |= {"rounds": rounds, "tokens": _TOKENS, "reference": worker.versions, "steps": describe()}
        introduce(about)
        for mode in modes:
            for batch in batches:
                case = Case(mode == "streaming", batch, seed, frames, cfg_scale)
                results.append(_measure(worker, runner, case, rounds))
                theirs, ours = results[-1]["reference_cpu"]["median"], results[-1]["ours_cpu"]["median"]
                print(
                    f"{case.name}: {theirs:.1f} / {ours:.1f} CPU ms, {theirs / ours:.2f}x", file=sys.stderr, flush=True
                )
    show(
        "milliseconds a step of all streams, median (tenth .. ninetieth percentile)",
        ("case", "reference", "ours", "ratio", "by round", "reference, CPU", "ours, CPU", "ratio, CPU", "difference"),
        [
            (
                r["case"], str(Spread(**r["reference"])), str(Spread(**r["ours"])), f"{r['ratio']:.2f}",
                f"{min(r['ratios']):.2f} .. {max(r['ratios']):.2f}", f"{r['reference_cpu']['median']:.2f}",
                f"{r['ours_cpu']['median']:.2f}", f"{r['ratio_cpu']:.2f}", f"{r['difference']:.1e}",
            )
            for r in results
        ],
    )  # fmt: skip
    finish(about, results)


def _measure(worker: Worker, runner: SledRunner, case: Case, rounds: int) -> dict[str, Any]:
    theirs, ours, ratios = Times(), Times(), []
    difference = 0.0
    repeats = case.batch if case.streaming else 1
    for turn in range(rounds + 1):
        their_steps, their_latents = worker.run(case)
        our_steps, our_latents = run_ours(runner, case)
        rows = their_latents.shape[0]
        apart = (their_latents - our_latents[:rows])[:, :_COMPARED].abs().max() / their_latents.abs().max()
        difference = max(difference, float(apart))
        if turn == 0:
            continue  # warm-up
        a, b = Times.of(their_steps, repeats), Times.of(our_steps)
        theirs.add(a)
        ours.add(b)
        ratios.append(Spread.of(a.wall).median / Spread.of(b.wall).median)
    wall = Spread.of(theirs.wall), Spread.of(ours.wall)
    cpu = Spread.of(theirs.cpu), Spread.of(ours.cpu)
    return {
        "case": case.name,
        "reference": wall[0].to_dict(), "ours": wall[1].to_dict(), "ratio": round(wall[0].median / wall[1].median, 3),
        "ratios": [round(r, 3) for r in ratios],
        "reference_cpu": cpu[0].to_dict(), "ours_cpu": cpu[1].to_dict(),
        "ratio_cpu": round(cpu[0].median / cpu[1].median, 3),
        "difference": difference,
    }  # fmt: skip
