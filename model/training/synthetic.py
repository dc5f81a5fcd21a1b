"""A synthetic corpus for bootstrapping: Debian's flite reads any text, with the phones it spoke.

The pitch is held at 100 Hz on purpose. At 50 latents a second every frame then spans exactly two pitch
periods and a vowel's waveform is the same in every frame, so that neither codec nor network has to learn
where in a period a frame starts; on a CPU that is the difference between speech and noise.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import soundfile

from sled_tts.model.errors import ModelError

SAMPLING_RATE = 16_000
PITCH_HZ = 100
PITCHES, LOCKED = "pitch.f32", "locked.json"
_LEAD_S, _TRAIL_S = 0.08, 0.14


@dataclass(frozen=True)
class CorpusItem:
    """One utterance: `frames` latents from frame `offset` of the corpus, one phone label a frame (or none at all).

    `speaker` tells whose recordings may prompt it; empty for a corpus of one voice.
    """

    index: int
    text: str
    offset: int
    frames: int
    phones: list[str]
    speaker: str = ""


def _segments(stdout: str) -> list[tuple[float, float, str]]:
    """flite's `phone:end_time` listing as (start, end, phone), seconds."""
    segments, start = [], 0.0
    for token in stdout.split():
        phone, colon, end = token.rpartition(":")
        if colon:
            segments.append((start, float(end), phone))
            start = float(end)
    return segments


def _speak(text: str, wav: Path, voice: str) -> str:
    command = ["flite", "-voice", voice, "--setf", f"int_f0_target_mean={PITCH_HZ}"]
    command += ["--setf", "int_f0_target_stddev=0", "-psdur", "-t", text, "-o", str(wav)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ModelError(f"flite ended with status {done.returncode} on {text!r}: {done.stderr.strip()}")
    return done.stdout


def synthesise_corpus(texts: Iterable[str], folder: Path, *, hop: int, voice: str = "kal16") -> tuple[int, float]:
    """Read `texts` into `folder/audio.i16` (mono int16, 16 kHz) and `folder/items.jsonl`.

    Silence is trimmed to whole frames, so the pitch grid stays on the frame grid. Returns (utterances,
    hours). Raises ModelError when flite is not installed or speaks nothing.
    """
    if shutil.which("flite") is None:
        raise ModelError("flite is not installed (Debian package: flite)")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PITCHES, LOCKED):  # of recordings that were here before
        (folder / name).unlink(missing_ok=True)
    offset, count = 0, 0
    with (
        TemporaryDirectory() as scratch,
        (folder / "audio.i16").open("wb") as audio,
        (folder / "items.jsonl").open("w", encoding="utf-8") as items,
    ):
        wav = Path(scratch) / "utterance.wav"
        for index, text in enumerate(texts):
            segments = _segments(_speak(text, wav, voice))
            samples, rate = soundfile.read(wav, dtype="int16")
            if rate != SAMPLING_RATE:
                raise ModelError(f"voice {voice} speaks at {rate} Hz, expected {SAMPLING_RATE}")
            if len(segments) < 3 or segments[0][2] != "pau" or segments[-1][2] != "pau":
                continue
            first = int(max(0.0, segments[0][1] - _LEAD_S) * rate) // hop
            last = min(len(samples) // hop, int((segments[-1][0] + _TRAIL_S) * rate) // hop)
            centres = [(frame + 0.5) * hop / rate for frame in range(first, last)]
            phones = [next((p for a, b, p in segments if a <= t < b), "pau") for t in centres]
            item = CorpusItem(index, text, offset, last - first, phones)
            audio.write(samples[first * hop : last * hop].tobytes())
            items.write(json.dumps(asdict(item)) + "\n")
            offset, count = offset + item.frames, count + 1
    if not count:
        raise ModelError("no text could be spoken")
    return count, offset * hop / SAMPLING_RATE / 3600


def read_items(folder: Path) -> Iterator[CorpusItem]:
    with (folder / "items.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield CorpusItem(**json.loads(line))


def read_audio(folder: Path) -> npt.NDArray[np.int16]:
    """All samples of the corpus, memory-mapped."""
    return np.memmap(folder / "audio.i16", dtype=np.int16, mode="r")


def read_pitches(folder: Path) -> npt.NDArray[np.float32] | None:
    """The pitch that every frame of a corpus had before it was locked `[F]`, Hz, 0 where unvoiced. None for a corpus
    whose pitch was not."""
    path = folder / PITCHES
    return np.fromfile(path, dtype="<f4") if path.is_file() else None


def read_locked(folder: Path) -> dict[str, float]:
    """The pitch at which a corpus has each of its speakers, Hz; empty for a corpus that has them at their own."""
    path = folder / LOCKED
    return dict(json.loads(path.read_text())) if path.is_file() else {}
