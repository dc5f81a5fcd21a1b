"""Files that only run elsewhere: at least everything they name exists here."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer

from sled_tts.server import cli
from sled_tts.server.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()


def _instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    sources = [source for name, rest in _instructions() if name == "COPY" for source in rest.split()[:-1]]
    assert {"model", "server", "clients", "pyproject.toml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not any(fnmatch(source, pattern) for pattern in IGNORED), source


def test_the_image_copies_what_the_build_reads() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = {source for name, rest in _instructions() if name == "COPY" for source in rest.split()[:-1]}
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    assert needed | set(project["tool"]["setuptools"]["package-dir"].values()) <= copied


def test_every_target_runs_as_nobody_special() -> None:
    targets: dict[str, str] = {}
    stage = ""
    for name, rest in _instructions():
        if name == "FROM":
            stage = rest.split()[-1]
        elif name == "USER":
            targets[stage] = rest
    assert targets == {"cpu": "sled", "cuda": "sled"}
    assert "HEALTHCHECK" in {name for name, _ in _instructions()}


def test_the_image_passes_options_that_serve_has() -> None:
    application = typer.Typer()
    application.command()(cli.serve)
    known = {option for param in typer.main.get_command(application).params for option in param.opts}
    given = {option for name, rest in _instructions() if name == "CMD" for option in re.findall(r'"(--[\w-]+)"', rest)}
    assert given
    assert given <= known


def test_compose_builds_targets_of_the_image_with_settings_that_exist() -> None:
    compose = (ROOT / "deploy" / "docker-compose.yml").read_text(encoding="utf-8")
    stages = {rest.split()[-1] for name, rest in _instructions() if name == "FROM"}
    targets = set(re.findall(r"target: (\w+)", compose))
    assert targets
    assert targets <= stages
    settings = {f"SLED_TTS_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"SLED_TTS_\w+", compose + DOCKERFILE)) <= settings


@pytest.mark.parametrize("script", [".ci/run", "scripts/check.sh", "deploy/quickstart.sh"])
def test_scripts_parse_and_fail_on_the_first_failure(script: str) -> None:
    text = (ROOT / script).read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    environment = {"PATH": os.environ["PATH"]}
    assert subprocess.run(["bash", "-n", script], cwd=ROOT, env=environment, check=False).returncode == 0
