"""Voices by the Python client and on the command line, against a real server with a tiny checkpoint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sled_tts.clients.errors import ServerUnreachableError, SledClientError, SpeechError
from sled_tts.clients.main import app
from sled_tts.clients.voices import VoiceClient
from sled_tts.server.wiring import load_service
from tests.server.routes.conftest import RATE, write_checkpoint
from tests.server.routes.loopback import running
from tests.server.voices.sounds import encoded, silence, voiced

SAID = "words to learn some words from"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a thread of its own: the client blocks."""
    folder = write_checkpoint(tmp_path_factory.mktemp("client") / "voice", "tiny", stream_n=3, stream_m=4)
    service = load_service([str(folder)], slots=2, threads=1, device="cpu", voices_dir=tmp_path_factory.mktemp("kept"))
    ready, stop, address = threading.Event(), threading.Event(), []

    async def serve() -> None:
        async with running(service) as server:
            address.append(f"http://127.0.0.1:{server.port}")
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(300)
    yield address[0]
    stop.set()
    thread.join()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "anna.wav"
    path.write_bytes(encoded(voiced(2.0, RATE), RATE))
    return path


def last_line(told: str) -> list[str]:
    """The server logs to the same output here."""
    return told.splitlines()[-1].split()


def command(url: str, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["voices", *words, "--url", url])
    return result.exit_code, result.output


def test_a_voice_from_its_recording_to_its_end(url: str, recording: Path, tmp_path: Path) -> None:
    code, told = command(url, "add", str(recording), "--name", "Anna", "--consent", "she agreed", "--text", SAID)
    assert code == 0, told
    voice = VoiceClient(url).get("anna")
    assert last_line(told) == [voice.id, "Anna"]
    assert (voice.kind, voice.alias_of) == ("cloned", None)
    out = tmp_path / "out.wav"
    # This network never says that it is done, so that the command reports a cut utterance: but in Anna's voice.
    said = CliRunner().invoke(app, ["say", "some words", "--voice", "Anna", "--url", url, "--output", str(out)])
    assert "not complete: length" in said.output
    assert out.stat().st_size > 1000
    code, listed = command(url, "list")
    assert code == 0
    assert voice.id in listed
    assert "alloy = default" in listed.replace("\n", " ")
    assert last_line(command(url, "rename", "anna", "Anne Marie")[1]) == [voice.id, "Anne", "Marie"]
    assert last_line(command(url, "delete", "Anne Marie")[1]) == ["deleted", voice.id]
    assert [v.id for v in VoiceClient(url).list() if v.alias_of is None] == ["default"]


def test_refusals_are_shown_and_fail(url: str, recording: Path, tmp_path: Path) -> None:
    quiet = tmp_path / "quiet.wav"
    quiet.write_bytes(encoded(silence(2.0)))
    cases = [
        (["add", str(quiet), "--name", "Q", "--consent", "yes", "--text", SAID], "silent"),
        (["add", str(recording), "--name", "nova", "--consent", "yes", "--text", SAID], "already"),
        (["add", str(tmp_path / "none.wav"), "--name", "N", "--consent", "yes"], "No such file"),
        (["rename", "nobody", "Somebody"], "unknown"),
        (["delete", "default"], "built in"),
        (["delete", "alloy"], "only stands for"),
    ]
    for words, reason in cases:
        code, told = command(url, *words)
        assert code == 1
        assert reason in " ".join(told.split()), told


def test_errors_keep_code_and_field(url: str, recording: Path) -> None:
    client = VoiceClient(url)
    with pytest.raises(SpeechError) as caught:
        client.add(recording, "Ben", " ", SAID)
    assert (caught.value.code, caught.value.param) == ("invalid_parameter", "consent")
    with pytest.raises(SpeechError) as caught:
        client.get("no/body")
    assert caught.value.code == "not_found"
    with pytest.raises(SledClientError, match="only stands for"):
        client.delete("onyx")
    with pytest.raises(ServerUnreachableError):
        VoiceClient("http://127.0.0.1:9").list()
