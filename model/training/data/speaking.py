"""Synthetic recordings for bootstrapping: Debian's flite and festival voices reading given texts."""

from __future__ import annotations

import re
import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sled_tts.model.errors import ModelError
from sled_tts.model.training.data.sources import Found

# Festival takes a second to start.
_BATCH = 50


@dataclass(frozen=True)
class Speaker:
    """A synthesiser's voice, written `flite:slt` or `festival:cmu_us_slt_arctic_hts`."""

    engine: str
    voice: str

    @classmethod
    def parse(cls, text: str) -> Speaker:
        """Raises ModelError for an engine that is not known or installed, and for a voice it does not have."""
        engine, _, voice = text.partition(":")
        if engine not in ("flite", "festival"):
            raise ModelError(f"voice must be flite:NAME or festival:NAME, got {text!r}", param="voice")
        if shutil.which(engine) is None:
            raise ModelError(f"{engine} is not installed (Debian package: {engine})", param="voice")
        there = _flite_voices() if engine == "flite" else _festival_voices()
        # Flite speaks with another voice when it does not know one.
        if voice not in there:
            raise ModelError(f"{engine} has no voice {voice!r}; it has {', '.join(there)}", param="voice")
        return cls(engine, voice)

    @property
    def name(self) -> str:
        return f"{self.engine}-{self.voice}"

    def speak(self, texts: Sequence[str], wavs: Sequence[Path]) -> None:
        """Read each text into its file; a file is missing afterwards when the synthesiser has failed on its text."""
        if self.engine == "flite":
            for text, wav in zip(texts, wavs, strict=True):
                _run(["flite", "-voice", self.voice, "-t", text, "-o", str(wav)])
            return
        spoken = (
            f"(utt.save.wave (utt.synth (Utterance Text {_quoted(text)})) {_quoted(str(wav))})"
            for text, wav in zip(texts, wavs, strict=True)
        )
        _run(["festival", "--pipe"], "\n".join([f"(voice_{self.voice})", *spoken]))


def speak_all(
    texts: Sequence[str],
    speakers: Sequence[Speaker],
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Found]:
    """Text i read by speaker i modulo their number, into `folder/<speaker>/<i>.wav`; what is there is not read again.

    A text that could not be spoken is given with a file that is missing. Raises ModelError when the disk is full.
    """
    done = 0
    try:
        for number, speaker in enumerate(speakers):
            mine = range(number, len(texts), len(speakers))
            own = [(index, folder / speaker.name / f"{index:06d}.wav") for index in mine]
            for first in range(0, len(own), _BATCH):
                batch = own[first : first + _BATCH]
                missing = [(index, wav) for index, wav in batch if not wav.is_file()]
                _speak_batch(speaker, [texts[index] for index, _ in missing], [wav for _, wav in missing])
                done += len(batch)
                progress(done, len(texts))
                for index, wav in batch:
                    yield Found(f"{speaker.name}-{index:06d}", wav, texts[index], speaker.name)
    except OSError as error:
        raise ModelError(f"{folder} could not be written: {error}") from error


def _speak_batch(speaker: Speaker, texts: Sequence[str], wavs: Sequence[Path]) -> None:
    """Each file under another name until it is whole."""
    partial = [wav.with_suffix(".part.wav") for wav in wavs]
    for wav in partial:
        wav.parent.mkdir(parents=True, exist_ok=True)
        wav.unlink(missing_ok=True)
    if texts:
        speaker.speak(texts, partial)
    for made, wav in zip(partial, wavs, strict=True):
        if made.is_file() and _has_sound(made):
            made.replace(wav)
        made.unlink(missing_ok=True)


def _has_sound(wav: Path) -> bool:
    """Raises ModelError when there is less in the file than its header promises."""
    try:
        with wave.open(str(wav), "rb") as file:
            promised = file.getnframes() * file.getnchannels() * file.getsampwidth()
    except (wave.Error, EOFError):
        promised = wav.stat().st_size + 1
    if promised > wav.stat().st_size:
        raise ModelError(f"{wav} is cut short; is the disk full?")
    return promised > 0


def _run(command: list[str], script: str = "") -> str:
    """What it says. Raises ModelError when it fails."""
    done = subprocess.run(command, input=script.encode("latin-1"), capture_output=True, check=False)
    if done.returncode:
        why = done.stderr.decode("latin-1").strip().splitlines()[-1:]
        raise ModelError(f"{command[0]} ended with status {done.returncode}: {' '.join(why) or 'is the disk full?'}")
    return done.stdout.decode("latin-1")


def _flite_voices() -> list[str]:
    return _run(["flite", "-lv"]).partition(":")[2].split()


def _festival_voices() -> list[str]:
    return re.findall(r"[\w-]+", _run(["festival", "--pipe"], "(print (voice.list))"))


def _quoted(text: str) -> str:
    """A string of festival's Scheme, whose letters are ISO 8859-1."""
    plain = text.replace("’", "'").replace("‘", "'").replace("“", '"').replace("”", '"')
    plain = plain.encode("latin-1", "ignore").decode("latin-1")
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
