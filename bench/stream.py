"""One guided stream from its text to its samples: time to first audio and RTF, codec included, on the engine's runner.

No sockets and no scheduler: what a server can at best do. Chunks are the server's: the first as soon as exact
decoding allows, then four frames each.
"""

from __future__ import annotations

import time

import torch

from sled_tts.bench.common import Spread, finish, introduce, machine, show
from sled_tts.bench.speakers import Speakers
from sled_tts.bench.step import make_runner
from sled_tts.model.native.library import describe
from sled_tts.model.quantization import Precision
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.work import DecodeWork

_CHUNK = 4
_TOKENS = 40


def speak(runner: SledRunner, seconds: float, seed: int) -> dict[str, float]:
    """Wall and processor seconds to the first chunk, and for a second of what follows it."""
    vocabulary = runner.info.vocab_size
    ids = [0, *(4 + (7 * k + seed) % (vocabulary - 4) for k in range(_TOKENS - 2)), 2]
    began = time.perf_counter(), time.process_time()
    speakers = Speakers(runner, [ids], [seed], streaming=runner.info.n is not None)
    decoded = runner.info.first_chunk_frames
    for _ in range(decoded):
        speakers.step()
    runner.decode([DecodeWork(0, 0, decoded, False)])
    first = time.perf_counter(), time.process_time()
    chunks = max(1, round(seconds * runner.info.frame_rate / _CHUNK))
    for _ in range(chunks):
        for _ in range(_CHUNK):
            speakers.step()
        runner.decode([DecodeWork(0, decoded, _CHUNK, False)])
        decoded += _CHUNK
    audio = chunks * _CHUNK / runner.info.frame_rate
    return {
        "ttfa": first[0] - began[0],
        "ttfa_cpu": first[1] - began[1],
        "rtf": (time.perf_counter() - first[0]) / audio,
        "rtf_cpu": (time.process_time() - first[1]) / audio,
    }


def run(
    model: str, precision: Precision, seconds: float = 2.0, rounds: int = 5, threads: int | None = None, seed: int = 0
) -> None:
    """Speak `rounds` times and print medians; the first time is warm-up."""
    torch.set_num_threads(threads or torch.get_num_threads())
    runner = make_runner(model, precision, 1, _TOKENS + 16 + int(seconds * 100), seed)
    about = machine() | {"model": model, "precision": str(precision), "seed": seed, "seconds": seconds}
    about["steps"] = describe()
    introduce(about)
    spoken = [speak(runner, seconds, seed + turn) for turn in range(rounds + 1)][1:]
    spreads = {name: Spread.of([one[name] for one in spoken]) for name in spoken[0]}
    rows = [(name, f"{s.median:.3f}", f"{s.p10:.3f} .. {s.p90:.3f}", f"{s.best:.3f}") for name, s in spreads.items()]
    show("one guided stream, codec included; TTFA in seconds", ("", "median", "p10 .. p90", "best"), rows)
    finish(about, {name: spread.to_dict() for name, spread in spreads.items()})
