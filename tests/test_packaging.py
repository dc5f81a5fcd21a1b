"""The package list, the tree and the wheel say the same."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETUPTOOLS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def _tracked() -> list[Path]:
    """Files of the four parts that belong to the project: what git knows and what it would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "model", "server", "clients", "bench"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listing.returncode:  # an unpacked archive has no git
        parts = ("model", "server", "clients", "bench")
        found = [p.relative_to(ROOT) for part in parts for p in (ROOT / part).rglob("*")]
        return [p for p in found if (ROOT / p).is_file() and "__pycache__" not in p.parts]
    return [Path(line) for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def _data_files() -> set[Path]:
    """Files that the package-data patterns pick."""
    found: set[Path] = set()
    for package, patterns in SETUPTOOLS["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            matches = {p.relative_to(ROOT) for p in folder.glob(pattern) if p.is_file()}
            assert matches, f"{pattern} of {package} matches nothing"
            found |= matches
    return found


def test_every_folder_with_python_is_a_listed_package() -> None:
    folders = {path.parent for path in _tracked() if path.suffix == ".py"}
    assert {f"sled_tts.{'.'.join(folder.parts)}" for folder in folders} == set(SETUPTOOLS["packages"])


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_every_package_says_what_it_is(package: str) -> None:
    text = ROOT.joinpath(*package.split(".")[1:], "__init__.py").read_text(encoding="utf-8")
    assert text.startswith('"""'), package


def test_the_namespace_is_nobodys() -> None:
    assert set(SETUPTOOLS["package-dir"]) == {f"sled_tts.{part}" for part in ("model", "server", "clients", "bench")}
    assert not (ROOT / "__init__.py").exists()


def test_every_file_that_is_not_python_is_package_data() -> None:
    others = {path for path in _tracked() if path.suffix != ".py"}
    assert others == _data_files()


def test_the_wheel_holds_every_file_and_the_commands(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for path in [*_tracked(), *map(Path, ("pyproject.toml", "README.md", "LICENSE", "NOTICE"))]:
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(ROOT / path)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(archive.read(n).decode() for n in names if n.endswith("entry_points.txt"))
    inside = {name.removeprefix("sled_tts/") for name in names if name.startswith("sled_tts/")}
    assert inside == {path.as_posix() for path in _tracked()}
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert "sled-tts = sled_tts.clients.main:app" in entry_points
    # The built-in voice has to fit a download: 40 MB for everything.
    assert wheel.stat().st_size < 40e6
