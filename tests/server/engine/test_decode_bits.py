"""What a stream sounds like depends on its company in no way: one process for each set of kernels."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sled_tts.server.engine.work import DecodeWork
from tests.fakes import tiny_runner

ROOT = Path(__file__).resolve().parents[3]
SLOTS = 16


def differing(seed: int = 0) -> list[tuple[int, int]]:
    """(batch size, slot) wherever a runner decodes other bits than for the slot alone; batches 1 .. 16, any company."""
    torch.set_num_threads(1)
    runner = tiny_runner(slots=SLOTS, stream_n=3, stream_m=4)[0]
    first = runner.info.first_chunk_frames
    cells = ((0, first), (first, 4), (first + 4, 2), (first + 6, 1))
    source = torch.Generator().manual_seed(seed)
    frames = first + 7
    runner.state.latents[:, :frames] = torch.randn(SLOTS, frames, runner.info.latent_dim, generator=source)

    def speak(slots: list[int]) -> dict[int, bytes]:
        runner.decoder.reset(slots)
        heard = dict.fromkeys(slots, b"")
        for start, count in cells:
            work = [DecodeWork(slot, start, count, False) for slot in slots]
            for slot, wave in zip(slots, runner.decode(work), strict=True):
                assert wave.size == count * runner.info.hop
                heard[slot] += wave.tobytes()
        return heard

    alone = {slot: speak([slot])[slot] for slot in range(SLOTS)}
    assert len(set(alone.values())) == SLOTS
    rng = random.Random(seed)
    wrong = []
    for size in range(1, SLOTS + 1):
        for _ in range(2):
            company = rng.sample(range(SLOTS), size)
            wrong += [(size, slot) for slot, pcm in speak(company).items() if pcm != alone[slot]]
    return wrong


def test_here() -> None:
    assert differing() == []


@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_on_other_processors(capability: str) -> None:
    """torch reads the variable once, when it is loaded."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.server.engine.test_decode_bits import differing\n"
        "import torch\n"
        "print(torch.backends.cpu.get_cpu_capability(), differing())"
    )
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1].strip() == "[]"
