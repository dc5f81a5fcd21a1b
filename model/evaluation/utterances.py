"""Test sets of recorded speech: LibriSpeech's folders, LibriSpeech-PC's manifests, lhotse cuts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.judges import Wave

_AUDIO = (".flac", ".wav", ".opus", ".ogg")


@dataclass(frozen=True)
class Utterance:
    """What is said in `path` from `start_s` for `duration_s` seconds."""

    id: str
    speaker: str
    text: str
    path: Path
    duration_s: float
    start_s: float = 0.0

    def wave(self, rate: int) -> Wave:
        """Mono samples `[N]` at `rate`. ModelError when the file cannot be read."""
        try:
            with soundfile.SoundFile(self.path) as file:
                file.seek(round(self.start_s * file.samplerate))
                samples = file.read(round(self.duration_s * file.samplerate), dtype="float32", always_2d=True)
                own = int(file.samplerate)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise ModelError(f"{self.path}: {error}", param="data") from error
        mono = samples.mean(axis=1)
        made = mono if own == rate else soxr.resample(mono, own, rate)
        return np.ascontiguousarray(made, dtype=np.float32)


def read_utterances(source: Path) -> list[Utterance]:
    """A test set, in the order of its ids or of its manifest.

    `source`: a folder of LibriSpeech (`*.trans.txt` beside the recordings), a manifest with `audio_filepath`, `text`
    and `duration` a line (LibriSpeech-PC; paths relative to it), or lhotse cuts. ModelError names what is wrong.
    """
    if source.is_dir():
        found = _librispeech(source)
    elif not source.is_file():
        raise ModelError(f"no test set at {source}", param="data")
    else:
        first = _json(source, 1, next(iter(source.read_text(encoding="utf-8").splitlines()), ""))
        found = _manifest(source) if "audio_filepath" in first else _cuts(source)
    if not found:
        raise ModelError(f"{source} holds no utterances", param="data")
    return found


def of_speaker(utterances: Sequence[Utterance], speaker: str | None) -> list[Utterance]:
    """Those of one speaker, or all for None; ModelError with the speakers there are when it has none."""
    kept = [one for one in utterances if speaker is None or one.speaker == speaker]
    if not kept:
        there = ", ".join(sorted({one.speaker for one in utterances})[:20])
        raise ModelError(f"no recordings of {speaker!r}; there are: {there}", param="speaker")
    return kept


def within(
    utterances: Sequence[Utterance], shortest_s: float, longest_s: float, limit: int | None = None
) -> list[Utterance]:
    """Those that last longer than `shortest_s` and less than `longest_s`; ModelError when none does."""
    kept = [one for one in utterances if shortest_s < one.duration_s < longest_s][:limit]
    if not kept:
        raise ModelError(f"none of {len(utterances)} utterances lasts {shortest_s:g} to {longest_s:g} s", param="data")
    return kept


def _librispeech(folder: Path) -> list[Utterance]:
    found = []
    for transcript in sorted(folder.rglob("*.trans.txt")):
        for line in transcript.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            path = next((p for end in _AUDIO if (p := transcript.with_name(name + end)).is_file()), None)
            if path is None or not text.strip():
                raise ModelError(f"{transcript}: {name!r} has no {'text' if path else 'recording'}", param="data")
            found.append(Utterance(name, name.split("-")[0], text.strip(), path, soundfile.info(path).duration))
    return found


def _json(source: Path, number: int, line: str) -> dict[str, object]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise ModelError(f"{source}, line {number}: {error}", param="data") from None
    if not isinstance(data, dict):
        raise ModelError(f"{source}, line {number} is no JSON object", param="data")
    return data


def _manifest(source: Path) -> list[Utterance]:
    found = []
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        data = _json(source, number, line)
        try:
            path = source.parent / str(data["audio_filepath"])
            text, duration = str(data["text"]).strip(), float(str(data["duration"]))
        except (KeyError, ValueError) as error:
            raise ModelError(f"{source}, line {number}: {error}", param="data") from None
        if not path.is_file() or not text:
            raise ModelError(f"{source}, line {number}: {path} {'has no text' if text == '' else 'is missing'}")
        found.append(Utterance(path.stem, path.stem.split("-")[0], text, path, duration))
    return found


def _cuts(source: Path) -> list[Utterance]:
    try:
        from sled_tts.model.training.manifests import Limits, read_manifest
        from sled_tts.model.training.recordings import speaker_of
    except ImportError as error:
        raise ModelError(f"{error}; lhotse manifests need the train extra: pip install '.[train]'") from error
    cuts, report = read_manifest(source, Limits(shortest_s=0.0, longest_s=float("inf")))
    if report.problems:
        raise ModelError(f"{source}: {report}", param="data")
    return [
        Utterance(
            cut.id, speaker_of(cut), (cut.supervisions[0].text or "").strip(),
            Path(cut.recording.sources[0].source), cut.duration, cut.start,
        )
        for cut in cuts
    ]  # fmt: skip
