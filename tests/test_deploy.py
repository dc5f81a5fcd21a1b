"""Files that only run elsewhere: at least everything they name exists here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer
from fastapi.routing import APIRoute

from sled_tts.server import cli
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.metrics import Metrics
from sled_tts.server.routes import health
from sled_tts.server.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DEPLOY = ROOT / "deploy"
SETTINGS = {f"SLED_TTS_{name.upper()}" for name in Settings.model_fields}
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
    assert set(re.findall(r"SLED_TTS_\w+", compose + DOCKERFILE)) <= SETTINGS


def test_kubernetes_runs_the_image_as_it_is_built() -> None:
    yaml = pytest.importorskip("yaml")
    parts = {part["kind"]: part for part in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))}
    pod = parts["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    named = {one["name"]: one.get("value") for one in container["env"]}
    assert set(named) <= SETTINGS
    assert pod["terminationGracePeriodSeconds"] > int(named["SLED_TTS_SHUTDOWN_TIMEOUT_S"])
    assert f"--uid {pod['securityContext']['runAsUser']} " in DOCKERFILE
    # A read-only file system needs every place the server writes to.
    places = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert places == {"/data", "/tmp"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    paths = {route.path for route in health.router.routes if isinstance(route, APIRoute)}
    assert {container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")} <= paths
    labels = parts["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert parts["Service"]["spec"]["selector"].items() <= labels.items()
    assert f"EXPOSE {container['ports'][0]['containerPort']}" in DOCKERFILE


def test_dashboard_and_alerts_ask_for_metrics_that_are_exported() -> None:
    yaml = pytest.importorskip("yaml")
    rules = yaml.safe_load((DEPLOY / "prometheus-alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text("utf-8"))
    asked = [rule["expr"] for rule in rules]
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    stats: dict[str, EngineStats] = {"m": EngineStats(1)}
    exported: dict[str, set[str]] = {}
    for family in Metrics(lambda: stats, lambda: {"stored": 1}).registry.collect():
        ends = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(family.type, ("",))
        exported |= {family.name + end: {label for one in family.samples for label in one.labels} for end in ends}
    for expression in asked:
        for name in re.findall(r"sled_tts_\w+", expression):
            assert name in exported, expression
    told = {name for expression in asked for name in re.findall(r"sled_tts_\w+", expression)}
    left = {name for name in exported if name not in told and not name.endswith(("_sum", "_count"))}
    assert left <= {"sled_tts_queue", "sled_tts_engine_frames_total"}, "exported, and shown nowhere"
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in dashboard["panels"]]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("script", [".ci/run", "scripts/check.sh", "deploy/quickstart.sh"])
def test_scripts_parse_and_fail_on_the_first_failure(script: str) -> None:
    text = (ROOT / script).read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    environment = {"PATH": os.environ["PATH"]}
    assert subprocess.run(["bash", "-n", script], cwd=ROOT, env=environment, check=False).returncode == 0
