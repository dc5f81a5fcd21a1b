"""What the documents say can be done can be done."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from sled_tts.clients.main import app
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.metrics import Metrics
from sled_tts.server.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
HELP = {"--help"}


def _blocks(language: str) -> list[tuple[Path, str]]:
    return [
        (path, body) for path in DOCUMENTS for name, body in FENCE.findall(path.read_text(encoding="utf-8"))
        if name == language
    ]  # fmt: skip


def _commands() -> list[tuple[str, list[str]]]:
    """Document and words of every command of every bash block, pipelines taken apart."""
    found = []
    for path, body in _blocks("bash"):
        for line in body.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
            lexer.whitespace_split = True
            lexer.commenters = "#"
            words: list[str] = []
            for word in [*lexer, "|"]:
                if set(word) <= set("|;&"):
                    if words:
                        found.append((path.name, words))
                    words = []
                else:
                    words.append(word)
    return found


def _options() -> dict[str, set[str]]:
    """Options of every subcommand of `sled-tts`, those of other parts included."""
    offered = typer.Typer()
    offered.registered_commands = list(app.registered_commands)
    groups = {str(group.name): group.typer_instance for group in app.registered_groups if group.typer_instance}
    for point in entry_points(group="sled_tts.commands"):
        command = point.load()
        if isinstance(command, typer.Typer):
            groups[point.name] = command
        else:
            offered.command(name=point.name)(command)
    for name, group in groups.items():
        offered.add_typer(group, name=name)
    whole = typer.main.get_command(offered)
    assert isinstance(whole, TyperGroup)
    found = {name: {o for p in command.params for o in _words(p)} | HELP for name, command in whole.commands.items()}
    for name, command in whole.commands.items():
        if isinstance(command, TyperGroup):
            # Not which of a group's commands an option belongs to, but that one has it.
            found[name] |= {o for inner in command.commands.values() for p in inner.params for o in _words(p)}
    return found


def _words(parameter: Any) -> list[str]:
    """What sets an option and what takes it back."""
    return [*parameter.opts, *parameter.secondary_opts]


def test_there_is_something_to_check() -> None:
    assert len(_commands()) > 8
    assert len(_blocks("python")) >= 1


def test_commands_in_documents_exist_with_the_options_they_are_given() -> None:
    options = _options()
    checked = 0
    for document, words in _commands():
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        if words[0] == "sled-tts":
            assert words[1] in options, (document, words)
            assert given <= options[words[1]] | {"-"}, (document, words)
            checked += 1
        elif words[0] == "bash":
            assert (ROOT / words[1]).is_file(), (document, words)
            checked += 1
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None, (document, words)
            checked += 1
        elif words[0] == "docker" and "-f" in words:
            assert (ROOT / words[words.index("-f") + 1]).is_file(), (document, words)
            checked += 1
    assert checked >= 8


def test_python_in_documents_imports_what_exists() -> None:
    for path, body in _blocks("python"):
        for node in ast.walk(ast.parse(body, str(path))):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), (path.name, node.module)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("#"):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    linked = set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8")))
    assert linked == {path.name for path in folder.glob("[0-9]*.md")}


def test_operations_lists_every_setting_with_its_default() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(SLED_TTS_\w+)` \| (\S+) \|", text, re.MULTILINE))
    shown: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        value = field.default
        if isinstance(value, tuple):
            default = ",".join(value) or "-"
        elif isinstance(value, bool):
            default = str(value).lower()
        else:
            default = "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        shown[f"SLED_TTS_{name.upper()}"] = default
    assert rows == shown


def test_operations_lists_every_metric() -> None:
    stats: dict[str, EngineStats] = {}
    real = {family.name for family in Metrics(lambda: stats).registry.collect()}
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(sled_tts_\w+)`", text, re.MULTILINE))
    assert listed == real


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_files_that_are_named_exist(path: Path) -> None:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for name in re.findall(r"`((?:model|server|clients|tests|scripts|deploy|docs|bench|\.ci)/[^\s`*{}]*)`", text):
        assert (ROOT / name).exists(), name
