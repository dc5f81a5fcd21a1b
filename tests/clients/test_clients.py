"""The clients against a real server with a tiny random model, and their behaviour when something is wrong."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sled_tts.clients.errors import ServerUnreachableError, SledClientError, SpeechError
from sled_tts.clients.local_server import running_server, server_installed
from sled_tts.clients.playback import WavFile, WavStdout, open_sink
from sled_tts.clients.rest import SledClient
from sled_tts.clients.streaming import AsyncSledClient, Done, Pcm, Started, StreamEvent
from sled_tts.clients.voices import VoiceClient

LATE_TEXT = "one word every fifty milliseconds is how a language model writes its answer to a question"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server process with the built-in voice: what a user has."""
    with running_server("http://127.0.0.1:9", None, start=True) as own:
        yield own


async def collect(url: str, text: list[str] | AsyncIterator[str], **start: object) -> list[StreamEvent]:
    return [event async for event in AsyncSledClient(url).stream(text, **start)]


def pcm(events: list[StreamEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Pcm))


async def test_stream_says_everything_and_reports_it(url: str) -> None:
    events = await collect(url, ["Hello ", "there, ", "friend."], seed=1)
    started, done = events[0], events[-1]
    assert isinstance(started, Started)
    assert isinstance(done, Done)
    assert done.finish_reason == "stop"
    assert len(pcm(events)) == 2 * done.info["samples"]
    assert done.duration_s == pytest.approx(done.info["samples"] / started.sample_rate, abs=1e-3)


async def test_same_seed_same_audio_however_the_text_is_cut(url: str) -> None:
    whole = pcm(await collect(url, ["The man was in the house."], seed=5))
    cut = pcm(await collect(url, list("The man was in the house."), seed=5))
    other = pcm(await collect(url, ["The man was in the house."], seed=6))
    assert whole == cut
    assert whole != other


async def test_audio_comes_before_the_last_word_is_sent(url: str) -> None:
    sent: list[float] = []
    clock = asyncio.get_running_loop().time

    async def words() -> AsyncIterator[str]:
        for word in LATE_TEXT.split(" "):
            sent.append(clock())
            yield word + " "
            await asyncio.sleep(0.05)

    first_audio = None
    async for event in AsyncSledClient(url).stream(words(), seed=1):
        if isinstance(event, Pcm) and first_audio is None:
            first_audio = clock()
    assert first_audio is not None
    assert first_audio < sent[-1]


async def test_sixteen_streams_are_what_each_is_alone(url: str) -> None:
    texts = [f"This is stream number {name}." for name in ("one", "two", "three", "four")] * 4
    alone = [pcm(await collect(url, [text], seed=i)) for i, text in enumerate(texts[:3])]
    together = await asyncio.gather(
        *(collect(url, [*(w + " " for w in text.split(" ")[:-1]), text.split(" ")[-1]], seed=i)
          for i, text in enumerate(texts))
    )  # fmt: skip
    for events in together:
        assert isinstance(events[-1], Done)
        assert events[-1].finish_reason == "stop"
    assert [pcm(events) for events in together[:3]] == alone


async def test_refusals_name_the_field(url: str) -> None:
    with pytest.raises(SpeechError, match="cfg_scale") as refused:
        await collect(url, ["a"], cfg_scale=99)
    assert refused.value.param == "cfg_scale"


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_an_address_may_end_as_that_of_openais_clients_does(url: str, ending: str) -> None:
    assert SledClient(url + ending).is_ready()
    assert b"".join(SledClient(url + ending).speech("Hello there.", seed=3))
    assert VoiceClient(url + ending).list()
    events = [event async for event in AsyncSledClient(url + ending).stream(["Hello there."], seed=3)]
    assert isinstance(events[-1], Done)


def test_rest_wav_is_the_streams_audio(url: str) -> None:
    body = b"".join(SledClient(url).speech("Hello there.", seed=3))
    assert body[:4] == b"RIFF"
    assert body.count(b"RIFF") == 1
    raw = b"".join(SledClient(url).speech("Hello there.", seed=3, response_format="pcm", sample_rate=16_000))
    header, samples = body[: -len(raw)], body[-len(raw) :]
    assert samples == raw
    assert header.endswith(b"data\xff\xff\xff\xff")


def test_rest_errors_are_told(url: str) -> None:
    with pytest.raises(SpeechError) as refused:
        list(SledClient(url).speech("  "))
    assert refused.value.param == "input"


def test_no_server_says_what_to_do() -> None:
    with (
        pytest.raises(ServerUnreachableError, match="sled-tts serve"),
        running_server("http://127.0.0.1:9", None, start=False),
    ):
        pass
    with pytest.raises(ServerUnreachableError):
        list(SledClient("http://127.0.0.1:9").speech("a"))
    assert server_installed()


def test_command_writes_a_wav_file(url: str, tmp_path: Path) -> None:
    out = tmp_path / "said.wav"
    command = [sys.executable, "-m", "sled_tts.clients.main"]
    subprocess.run([*command, "say", "Hello.", "-o", str(out), "--url", url], check=True, timeout=60)
    with wave.open(str(out)) as said:
        assert said.getnframes() > said.getframerate() // 5
    piped = subprocess.run(
        [*command, "stream", "-o", "-", "--url", url], input=b"Caf\xc3\xa9 is open.", capture_output=True,
        check=True, timeout=60,
    )  # fmt: skip
    assert piped.stdout[:4] == b"RIFF"
    assert len(piped.stdout) > 8_000
    failed = subprocess.run(
        [*command, "say", "Hello.", "-o", str(out), "--url", "http://127.0.0.1:9"], capture_output=True, timeout=60
    )
    assert failed.returncode == 1
    assert b"sled-tts serve" in failed.stderr


@pytest.mark.parametrize("name", ["a.mp3", "b.OGG", "missing/a.wav"])
def test_what_cannot_be_a_wav_file_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(SledClientError, match=name):
        open_sink(str(tmp_path / name), 16_000)
    assert list(tmp_path.iterdir()) == []


def test_wav_sinks(tmp_path: Path) -> None:
    sink = WavFile(tmp_path / "a.wav", 16_000)
    sink.write(b"\1\0" * 100)
    sink.close()
    with wave.open(str(tmp_path / "a.wav")) as read:
        assert (read.getnframes(), read.getframerate(), read.getnchannels()) == (100, 16_000, 1)
    out = io.BytesIO()
    stream = WavStdout(8_000, out)
    stream.write(b"\1\0")
    assert out.getvalue()[4:8] == b"\xff\xff\xff\xff"
    assert out.getvalue()[44:] == b"\1\0"
