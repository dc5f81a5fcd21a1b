"""Any corpus to LibriHeavy-style manifests: `sled-tts data prepare`. What cannot be used is said, with examples."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import soundfile
from lhotse import MonoCut
from lhotse.serialization import deserialize_item

from sled_tts.model.errors import ModelError
from sled_tts.model.training.data.sources import Found
from sled_tts.model.training.manifests import Limits, ManifestReport, problem_of
from sled_tts.model.training.resume import write_atomically


@dataclass
class _Header:
    """The recording read last: many cuts in a row are from the same."""

    path: Path | None = None
    rate: int = 0
    samples: int = 0

    def read(self, path: Path) -> None:
        if path != self.path:
            info = soundfile.info(str(path))
            self.path, self.rate, self.samples = path, info.samplerate, info.frames


@dataclass(frozen=True)
class ManifestWriter:
    """Writes one manifest for each part of a corpus into `out`; audio below `out` is named relative to it."""

    out: Path
    limits: Limits = field(default_factory=Limits)
    skip_bad: bool = False
    compress: bool = False

    def write(self, part: str, found: Callable[[ManifestReport], Iterable[Found]]) -> tuple[Path, ManifestReport]:
        """All usable utterances; the others are counted in the report. Raises ModelError, and leaves what was there,
        when some cannot be used (unless `skip_bad`), when none can, and when the disk is full."""
        path, report = self.out / f"{part}.jsonl{'.gz' if self.compress else ''}", ManifestReport()

        def write(partial: Path) -> None:
            # No time in it: the same corpus is the same file.
            with ExitStack() as stack:
                file: IO[bytes] = stack.enter_context(partial.open("wb"))
                if self.compress:
                    file = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=file, mode="wb", mtime=0)))
                for cut in self._usable(found(report), report):
                    file.write((json.dumps(cut, ensure_ascii=False) + "\n").encode())
            if not report.usable or (report.problems and not self.skip_bad):
                raise ModelError(f"{part}: {report}")

        write_atomically(path, write)
        return path, report

    def _usable(self, found: Iterable[Found], report: ManifestReport) -> Iterator[dict[str, Any]]:
        seen, header = set[str](), _Header()
        for utterance in found:
            try:
                cut = self._cut(utterance, header) if utterance.audio.is_file() else None
            except (soundfile.SoundFileError, OSError):
                report.add("an unreadable audio file", utterance.id)
                continue
            if cut is None:
                report.add("a missing audio file", utterance.id)
                continue
            kind = problem_of(_as_cut(cut), utterance.audio, self.limits)
            if kind is None and utterance.id in seen:
                kind = "an id that was there before"
            seen.add(utterance.id)
            if kind is not None:
                report.add(kind, utterance.id)
                continue
            report.usable += 1
            report.seconds += cut["duration"]
            yield cut

    def _cut(self, utterance: Found, header: _Header) -> dict[str, Any]:
        """A lhotse MonoCut; rate and length of the recording are those of the file, whatever was told of it."""
        header.read(utterance.audio)
        recorded = header.samples / header.rate
        lasting = recorded - utterance.start if utterance.duration is None else utterance.duration
        where, base = utterance.audio.resolve(), self.out.resolve()
        source = where.relative_to(base) if where.is_relative_to(base) else where
        name, recording = utterance.id, utterance.id if utterance.duration is None else str(source)
        return {
            "id": name, "start": utterance.start, "duration": lasting, "channel": 0,
            "supervisions": [{
                "id": name, "recording_id": recording, "start": 0.0, "duration": lasting, "channel": 0,
                "text": utterance.text, "language": "en", "speaker": utterance.speaker,
            }],
            "recording": {
                "id": recording, "sources": [{"type": "file", "channels": [0], "source": str(source)}],
                "sampling_rate": header.rate, "num_samples": header.samples, "duration": recorded,
            },
            "type": "MonoCut",
        }  # fmt: skip


def _as_cut(data: dict[str, Any]) -> MonoCut:
    cut: MonoCut = deserialize_item(json.loads(json.dumps(data)))
    return cut
