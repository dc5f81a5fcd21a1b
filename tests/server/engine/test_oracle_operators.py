"""The promises of `test_oracle.py` where a step cannot be compiled: torch's operators keep them too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sled_tts.model.native.library import SWITCH
from tests.server.engine.test_oracle import RUNS

ROOT = Path(__file__).resolve().parents[3]


def test_without_compiled_kernels_company_changes_nothing_either() -> None:
    tests = Path(__file__).with_name("test_oracle.py").relative_to(ROOT)
    names = ("test_alone_equals_the_naive_oracle", "test_any_interleaving_gives_what_each_gives_alone")
    words = ["-q", "-x", "-p", "no:cacheprovider", *(f"{tests}::{name}" for name in names)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env=os.environ | {SWITCH: "off", RUNS: "30"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "4 passed" in done.stdout
