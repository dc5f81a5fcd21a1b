"""Reading speech manifests: LibriHeavy's JSON lines (lhotse MonoCuts) and any other lhotse CutSet.

Nothing is dropped in silence: what cannot be used is counted by kind, with examples, before training starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lhotse import CutSet, MonoCut
from lhotse.serialization import deserialize_item, load_jsonl

from sled_tts.model.errors import ModelError

_EXAMPLES = 3


@dataclass
class ManifestReport:
    """How many cuts are usable, and what is wrong with the others: `kind -> (count, examples)`."""

    usable: int = 0
    seconds: float = 0.0
    problems: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        count, examples = self.problems.get(kind, (0, []))
        self.problems[kind] = count + 1, [*examples, example][:_EXAMPLES]

    def __str__(self) -> str:
        lines = [f"{self.usable} usable utterances, {self.seconds / 3600:.2f} h"]
        for kind, (count, examples) in sorted(self.problems.items()):
            more = ", ..." if count > len(examples) else ""
            lines.append(f"{count} with {kind}: {', '.join(examples)}{more}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Limits:
    """What a usable cut is, in seconds. Longer ones are reported, never shortened."""

    shortest_s: float = 0.3
    longest_s: float = 35.0


def read_manifest(path: Path, limits: Limits, root: Path | None = None) -> tuple[list[MonoCut], ManifestReport]:
    """The usable cuts of a manifest (see `scan_manifest`) and a report on the rest.

    Raises ModelError when the file cannot be read as a manifest, or when no cut in it is usable.
    """
    report = ManifestReport()
    cuts = list(scan_manifest(path, limits, report, root))
    if not cuts:
        raise ModelError(f"{path}: {report}", param="manifest")
    return cuts, report


def scan_manifest(path: Path, limits: Limits, report: ManifestReport, root: Path | None = None) -> Iterator[MonoCut]:
    """The usable cuts one by one, with audio paths made absolute (relative ones start at `root`, by default the
    manifest's folder); what is met on the way goes into `report`.

    Raises ModelError when the file cannot be read as a manifest.
    """
    if not path.is_file():
        raise ModelError(f"no manifest at {path}", param="manifest")
    base, seen = root or path.parent, set[str]()
    for cut in read_cuts(path, report):
        where = Path(cut.recording.sources[0].source)
        where = where if where.is_absolute() else base / where
        kind = problem_of(cut, where, limits)
        if kind is None and cut.id in seen:
            kind = "an id that was there before"
        seen.add(cut.id)
        if kind is not None:
            report.add(kind, cut.id)
            continue
        cut.recording.sources[0].source = str(where)
        report.usable += 1
        report.seconds += cut.duration
        yield cut


def read_cuts(path: Path, report: ManifestReport) -> Iterator[MonoCut]:
    """Every cut of a manifest that can be read and has a recording; the others go into `report`. Raises ModelError when
    the file is no manifest."""
    if ".jsonl" not in path.suffixes:
        try:
            yield from (cut for cut in CutSet.from_file(path) if isinstance(cut, MonoCut))
        except Exception as error:
            raise ModelError(f"{path} is no lhotse manifest: {error}", param="manifest") from error
        return
    lines = load_jsonl(path)
    number = 0
    while True:
        number += 1
        try:
            data = next(lines)
            cut = deserialize_item(data)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise ModelError(f"{path} is not text: {error}", param="manifest") from error
        except Exception as error:
            # A line that is no JSON ends lhotse's reader: say where, instead of training on half a file.
            if isinstance(error, ValueError) and not isinstance(error, KeyError):
                raise ModelError(f"{path}, line {number}: {error}", param="manifest") from error
            report.add("no readable cut in it", f"line {number} ({error})")
            continue
        if isinstance(cut, MonoCut) and cut.recording is not None and cut.recording.sources:
            yield cut
        else:
            report.add("no recording", f"line {number}")


def problem_of(cut: MonoCut, where: Path, limits: Limits) -> str | None:
    """Why a cut whose audio file is `where` cannot be used; None when it can."""
    if not where.is_file():
        return "a missing audio file"
    if not cut.supervisions or not (cut.supervisions[0].text or "").strip():
        return "no text"
    recorded = cut.recording.duration
    if cut.start < 0 or cut.duration <= 0 or (recorded is not None and cut.start + cut.duration > recorded + 0.05):
        return "a start or duration outside its recording"
    if cut.duration < limits.shortest_s:
        return f"less than {limits.shortest_s:g} s"
    if cut.duration > limits.longest_s:
        return f"more than {limits.longest_s:g} s"
    return None
