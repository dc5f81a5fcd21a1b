"""The Triton kernels under Triton's interpreter, against plain torch and SDPA; and compiled for real GPUs' targets.

No GPU is needed: the interpreter runs a kernel's program on the CPU, and the compiler makes machine code for a chip
that is not there. What neither can show is speed, and races between programs.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed (there are wheels for Linux only)"
)


def _run(script: str, **environment: str) -> str:
    """In a process of its own: whether a kernel is interpreted is decided when Triton is imported."""
    done = subprocess.run(
        [sys.executable, str(HERE / script)],
        capture_output=True, text=True, check=False, cwd=HERE.parents[2],
        env=os.environ | environment | {"PYTHONPATH": str(HERE.parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_interpreted_kernels_give_what_plain_torch_gives() -> None:
    said = _run("interpreted.py", TRITON_INTERPRET="1").split()
    assert {"attend", "grouped", "e4m3", "append", "add_norm", "swiglu", "modulate"} <= set(said)


def test_a_network_on_interpreted_kernels_writes_what_it_writes_in_plain_torch() -> None:
    assert _run("network.py", TRITON_INTERPRET="1").count("network") == 2


def test_every_kernel_compiles_for_the_gpus_that_are_served(tmp_path: Path) -> None:
    said = _run("compiled.py", TRITON_CACHE_DIR=str(tmp_path))
    assert said.count("cubin") == 13, said
