"""`serve` and `doctor` as an operator runs them: real processes, a tiny checkpoint."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sled_tts.server.announce import curl_line, voice_line
from sled_tts.server.service import Voice, VoiceKind
from sled_tts.server.settings import Settings

_COMMAND = (
    "import typer; from sled_tts.server import cli; app = typer.Typer(); "
    "app.command()(cli.serve); app.command()(cli.doctor); app()"
)


def _start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLED_TTS_")}
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean | {"COLUMNS": "200"} | environment,
    )  # fmt: skip


def _run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of a command that ends by itself; one that does not is not left behind."""
    with _start(*arguments, **environment) as process:
        try:
            output, _ = process.communicate(timeout=600)
        finally:
            process.kill()
    return process.returncode, output


@contextmanager
def _serving(*arguments: str, until: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that has printed `until`, and what it printed up to there."""
    process = _start("serve", "--port", "0", *arguments, **environment)
    assert process.stdout is not None
    seen = ""
    try:
        for line in process.stdout:
            seen += line
            if until in line:
                break
        else:
            pytest.fail(f"the server ended without saying {until!r}:\n{seen}")
        yield process, seen
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def test_serve_speaks_a_demo_and_stops_cleanly(streaming_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "hello.wav"
    arguments = ("--model", str(streaming_folder), "--demo", str(target))
    with _serving(*arguments, until="the last word was sent", SLED_TTS_API_KEY="a-secret") as (process, seen):
        assert "tiny-streaming" in seen
        assert re.search(r"Voices? +default\b", seen), "a checkpoint without voices has one without a name"
        assert re.search(r"TTFA \d+ ms, RTF \d", seen)
        url = re.search(r"Page +(http://127\.0\.0\.1:\d+)/", seen)
        assert url is not None
        assert f"curl -s {url[1]}/v1/audio/speech" in seen
        assert "a-secret" not in seen
        with wave.open(str(target)) as spoken:
            assert (spoken.getnchannels(), spoken.getsampwidth(), spoken.getframerate()) == (1, 2, 16_000)
            assert spoken.getnframes() > 8_000
        assert httpx.get(url[1] + "/health/ready").status_code == 200
        assert httpx.get(url[1] + "/v1/models").status_code == 401
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "stopped" in process.stdout.read()
        assert process.wait(120) == 0


def test_a_demo_that_cannot_be_written_stops_the_server(streaming_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "missing" / "hello.wav"
    returned, output = _run("serve", "--port", "0", "--model", str(streaming_folder), "--demo", str(target))
    assert returned == 1
    assert "error:" in output


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "named"),
    [
        (("serve", "--model", "/no/such/folder"), {}, 1, "/no/such/folder"),
        (("serve", "--port", "70000"), {}, 2, "port"),
        (("serve", "--device", "tpu"), {}, 2, "device"),
        (("serve", "--api-key", ""), {}, 2, "api_key"),
        (("serve",), {"SLED_TTS_API_KEYS": "typo"}, 2, "SLED_TTS_API_KEYS"),
        (("doctor", "--model", "/no/such/folder"), {}, 1, "failed"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], environment: dict[str, str], code: int, named: str) -> None:
    returned, output = _run(*arguments, **environment)
    assert returned == code
    assert named in output
    assert "Traceback" not in output


def test_a_port_in_use_is_an_error(streaming_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        returned, output = _run("serve", "--port", port, "--model", str(streaming_folder))
    assert returned != 0
    assert "address already in use" in output.lower()
    assert "warm-up" not in output.replace("Warming up", "")


def test_doctor_examines_a_real_synthesis(streaming_folder: Path) -> None:
    returned, output = _run("doctor", "--model", str(streaming_folder))
    assert returned == 0
    for word in ("Weights and codec", "Synthesis", "RTF", "tiny-streaming", "cpu", "Steps on a CPU"):
        assert word in output


def test_doctor_finds_the_built_in_voice_healthy() -> None:
    returned, output = _run("doctor")
    assert returned == 0
    assert "a voice prompt of 1 s" in output


def test_the_voices_are_named_up_to_a_few() -> None:
    def built_in(*names: str) -> list[Voice]:
        return [Voice(name, name.capitalize(), VoiceKind.BUILT_IN) for name in names]

    cloned = Voice("voice_1", "Anna", VoiceKind.CLONED)
    assert voice_line(built_in("kim")) == "kim"
    assert voice_line([*built_in("kim", "lee"), cloned]) == "kim, lee (default: kim) and 1 cloned"
    assert voice_line(built_in(*"abcdefghij")) == "a, b, c, d, e, f, g, h and 2 more (default: a)"


@pytest.mark.parametrize(("keys", "sent"), [("", None), ("one", "one"), ("one,two", "one"), ("one, two", "one")])
def test_the_line_to_copy_sends_one_key_and_shows_none(keys: str, sent: str | None) -> None:
    line = curl_line(Settings(api_key=keys), "http://127.0.0.1:8000")  # type: ignore[arg-type]
    assert "one" not in line
    script = f"curl() {{ printf '%s\\n' \"$@\"; }}; {line}"
    run = subprocess.run(["bash", "-c", script], env={"SLED_TTS_API_KEY": keys}, capture_output=True, text=True)
    said = [argument for argument in run.stdout.splitlines() if "Bearer" in argument]
    assert said == ([f"Authorization: Bearer {sent}"] if sent else [])
