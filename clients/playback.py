"""Where PCM goes: a wav file, standard output, or a player program."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import BinaryIO, Protocol

from sled_tts.clients.errors import SledClientError

# Programs that read raw mono s16le from standard input, with {rate} filled in.
_PLAYERS = (
    ("pw-play", "--format", "s16", "--rate", "{rate}", "--channels", "1", "-"),
    ("paplay", "--raw", "--format=s16le", "--rate={rate}", "--channels=1"),
    ("aplay", "-q", "-t", "raw", "-f", "S16_LE", "-r", "{rate}", "-c", "1"),
    ("ffplay", "-loglevel", "error", "-nodisp", "-autoexit", "-f", "s16le", "-ar", "{rate}", "-i", "-"),
    ("play", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-r", "{rate}", "-c", "1", "-"),
)
# Names of files that a listener would not take for wav.
_NOT_WAV = frozenset({".mp3", ".opus", ".ogg", ".aac", ".m4a", ".flac", ".pcm", ".raw"})


class Sink(Protocol):
    """Takes mono s16le PCM."""

    def write(self, pcm: bytes) -> None: ...

    def close(self) -> None: ...


class WavFile:
    """A finished wav file: sizes are right once closed. Raises SledClientError where it cannot be written."""

    def __init__(self, path: Path, rate: int) -> None:
        if path.suffix.lower() in _NOT_WAV:
            raise SledClientError(f"{path}: only wav files are written; POST /v1/audio/speech has other formats")
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise SledClientError(f"{path}: {error.strerror}") from None
        self._wave = wave.open(self._file, "wb")  # noqa: SIM115 - closed by close()
        self._wave.setparams((1, 2, rate, 0, "NONE", "not compressed"))

    def write(self, pcm: bytes) -> None:
        self._wave.writeframes(pcm)

    def close(self) -> None:
        self._wave.close()
        self._file.close()


class WavStdout:
    """A streamed wav on standard output, for pipes: the size is not known when the header is written."""

    def __init__(self, rate: int, out: BinaryIO | None = None) -> None:
        self._out = out if out is not None else sys.stdout.buffer
        header = io.BytesIO()
        with wave.open(header, "wb") as empty:
            empty.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        data = bytearray(header.getvalue())
        data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
        self._out.write(data)

    def write(self, pcm: bytes) -> None:
        self._out.write(pcm)
        self._out.flush()

    def close(self) -> None:
        self._out.flush()


class Player:
    """A program of the system that plays raw PCM."""

    def __init__(self, rate: int) -> None:
        command = next((c for c in _PLAYERS if shutil.which(c[0])), None)
        if command is None:
            raise SledClientError(
                "nothing to play with (pw-play, paplay, aplay, ffplay or play); write a file with -o FILE.wav"
            )
        self._process = subprocess.Popen([part.format(rate=rate) for part in command], stdin=subprocess.PIPE)

    def write(self, pcm: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pcm)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SledClientError("the player stopped; write a file with -o FILE.wav") from None

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0:
            raise SledClientError("the player failed; write a file with -o FILE.wav")


def open_sink(output: str | None, rate: int) -> Sink:
    """`None` plays, `-` writes a streamed wav to standard output, anything else is a file."""
    if output is None:
        return Player(rate)
    return WavStdout(rate) if output == "-" else WavFile(Path(output), rate)
