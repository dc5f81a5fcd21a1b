"""Finds or compiles the kernels: `python -m sled_tts.model.native.build [--into FOLDER]`.

A library's name holds a digest of its sources and flags, so that an old one is never taken for a new one. Prebuilt ones
lie beside the sources; others are compiled at first use into the user's cache.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sled_tts.model.errors import ModelError

FOLDER = Path(__file__).parent
_FLAGS = ("-O3", "-std=gnu11", "-fno-math-errno", "-fPIC", "-shared", "-pthread", "-Wno-psabi")
_COMPILE_S = 300


@dataclass(frozen=True)
class Target:
    """Instructions to compile for."""

    name: str
    flags: tuple[str, ...]


AVX512 = Target("avx512vnni", ("-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=512"))
AVX2 = Target("avx2", ("-march=x86-64-v3",))
PLAIN = Target("plain", ())


def targets(machine: str | None = None) -> tuple[Target, ...]:
    """What can be compiled for this kind of processor, the best first."""
    return (AVX512, AVX2) if (machine or platform.machine()).lower() in ("x86_64", "amd64") else (PLAIN,)


def best_target() -> Target:
    """The best that this processor runs. Raises ModelError when it runs none."""
    if targets() == (PLAIN,):
        return PLAIN
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512" and torch.cpu._is_vnni_supported():
        return AVX512
    if capability in ("AVX512", "AVX2"):
        return AVX2
    raise ModelError("this processor has no AVX2")


def library_name(target: Target) -> str:
    digest = hashlib.sha256(" ".join((*_FLAGS, *target.flags)).encode())
    for path in sorted((*FOLDER.glob("*.c"), *FOLDER.glob("*.h"))):
        digest.update(path.read_bytes())
    return f"step-{target.name}-{digest.hexdigest()[:16]}.so"


def cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "sled-tts"


def compiler() -> str | None:
    """`$CC`, or the first that is installed."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next((found for name in names if (found := shutil.which(name))), None)


def find_or_build(target: Target) -> Path:
    """The library for `target`: one that lies beside the sources, one built before, or a new one in the cache.

    Raises ModelError with the reason when there is none and it cannot be built.
    """
    name = library_name(target)
    for folder in (FOLDER, cache_folder()):
        if (folder / name).is_file():
            return folder / name
    return build(target, cache_folder())


def build(target: Target, folder: Path) -> Path:
    """Compile into `folder`; readers never see half a file. Raises ModelError."""
    command = compiler()
    if command is None:
        raise ModelError("no C compiler is installed, and no prebuilt kernels came with the package")
    made = folder / library_name(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            half = Path(work) / made.name
            sources = [str(path) for path in sorted(FOLDER.glob("*.c"))]
            done = subprocess.run(
                [command, *_FLAGS, *target.flags, "-o", str(half), *sources, "-lm"],
                capture_output=True,
                text=True,
                timeout=_COMPILE_S,
            )
            if done.returncode != 0:
                raise ModelError(f"{command} failed: {done.stderr.strip()[:500]}")
            half.replace(made)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"the kernels could not be built: {error}") from error
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Build every target of this kind of processor; for an image that has no compiler later on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=FOLDER)
    options = parser.parse_args(words)
    for target in targets():
        try:
            print(build(target, options.into))
        except ModelError as error:
            print(f"{target.name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
