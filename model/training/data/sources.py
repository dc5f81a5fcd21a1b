"""What public corpora look like on disk: their utterances, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sled_tts.model.errors import ModelError
from sled_tts.model.training.data.download import Remote
from sled_tts.model.training.manifests import ManifestReport, read_cuts

_SOUND = (".wav", ".flac", ".ogg", ".opus", ".mp3")


@dataclass(frozen=True)
class Found:
    """An utterance as a corpus tells it: from `start` s on in `audio`, for `duration` s (None: to its end)."""

    id: str
    audio: Path
    text: str
    speaker: str
    start: float = 0.0
    duration: float | None = None


# By the part's name, what goes through it; faults met on the way go into the report.
Parts = dict[str, Callable[[ManifestReport], Iterable[Found]]]


@dataclass(frozen=True)
class Source:
    """A kind of corpus. `find(folder, parts)` gives its parts (all when none are named), and raises ModelError for one
    that is not there; `files(part)` is what to download for one."""

    find: Callable[[Path, Sequence[str]], Parts]
    files: Callable[[str], list[Remote]] | None = None
    parts: tuple[str, ...] = ()


def librispeech(folder: Path, parts: Sequence[str]) -> Parts:
    """`LibriSpeech/<part>/<speaker>/<chapter>/*.trans.txt`; its upper-case texts are written in lower case."""
    root = folder / "LibriSpeech" if (folder / "LibriSpeech").is_dir() else folder
    there = sorted(p.name for p in root.glob("*") if next(p.glob("*/*/*.trans.txt"), None))
    chosen = parts or there
    for part in chosen:
        if part not in there:
            raise ModelError(f"no {part} in {root}; there are: {', '.join(there)}", param="part")

    def utterances(part: str, report: ManifestReport) -> Iterator[Found]:
        for transcript in sorted((root / part).glob("*/*/*.trans.txt")):
            for line in transcript.read_text(encoding="utf-8").splitlines():
                name, _, text = line.partition(" ")
                speaker = f"librispeech-{transcript.parent.parent.name}"
                yield Found(name, transcript.parent / f"{name}.flac", text.lower(), speaker)

    return {part: partial(utterances, part) for part in chosen}


def ljspeech(folder: Path, parts: Sequence[str]) -> Parts:
    """`LJSpeech-1.1/metadata.csv`: `id|text|text with numbers written out`, and `wavs/`."""
    root = folder / "LJSpeech-1.1" if (folder / "LJSpeech-1.1").is_dir() else folder
    table = root / "metadata.csv"
    if not table.is_file():
        raise ModelError(f"no metadata.csv in {root}", param="source")

    def utterances(report: ManifestReport) -> Iterator[Found]:
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            name, *texts = line.split("|")
            if not texts:
                report.add("no text beside its id", f"line {number}")
                continue
            yield Found(name, root / "wavs" / f"{name}.wav", texts[-1] or texts[0], "ljspeech")

    return {"ljspeech": utterances}


def libriheavy(folder: Path, parts: Sequence[str]) -> Parts:
    """`libriheavy_cuts_<part>.jsonl.gz` beside the recordings of Libri-Light, whose paths may lack their first folders;
    the text is the book's, with case and punctuation."""
    return _manifests(folder, "libriheavy_cuts_", parts)


def folder_of_cuts(folder: Path, parts: Sequence[str]) -> Parts:
    """`cuts_<part>.jsonl` with audio paths relative to the folder; without any, sound files with a `.txt` beside."""
    if next(folder.glob("cuts_*.jsonl*"), None):
        return _manifests(folder, "cuts_", parts)

    def utterances(report: ManifestReport) -> Iterator[Found]:
        for audio in sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SOUND):
            text = audio.with_suffix(".txt")
            if not text.is_file():
                report.add("no .txt beside it", str(audio.relative_to(folder)))
                continue
            name = audio.relative_to(folder).with_suffix("").as_posix()
            yield Found(name, audio, " ".join(text.read_text(encoding="utf-8").split()), audio.parent.name)

    return {folder.name: utterances}


def _manifests(folder: Path, prefix: str, parts: Sequence[str]) -> Parts:
    there = {path.name.removeprefix(prefix).split(".")[0]: path for path in sorted(folder.glob(f"{prefix}*.jsonl*"))}
    for part in parts:
        if part not in there:
            raise ModelError(f"no {prefix}{part}.jsonl in {folder}; there are: {', '.join(there)}", param="part")
    return {f"{prefix}{part}": partial(_cuts, there[part], folder) for part in parts or there}


def _cuts(manifest: Path, folder: Path, report: ManifestReport) -> Iterator[Found]:
    skipped = 0
    for cut in read_cuts(manifest, report):
        spoken = cut.supervisions[0] if cut.supervisions else None
        book = (spoken.custom or {}).get("texts") if spoken is not None else None
        text = (spoken.text or "") if spoken is not None else ""
        source = Path(cut.recording.sources[0].source)
        # As deep as the last one first; a missing one is named as the manifest does.
        depths = [skipped, *range(len(source.parts))]
        skipped = next((d for d in depths if folder.joinpath(*source.parts[d:]).is_file()), 0)
        audio = folder.joinpath(*source.parts[skipped:])
        speaker = (spoken.speaker if spoken is not None else None) or source.parent.name
        yield Found(cut.id, audio, text.strip() or (book[0] if book else ""), speaker, cut.start, cut.duration)


_LIBRISPEECH = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
_MINI = ("dev-clean-2", "train-clean-5")


def _librispeech_files(part: str) -> list[Remote]:
    number = 31 if part in _MINI else 12
    return [Remote(f"https://www.openslr.org/resources/{number}/{part}.tar.gz", _LIBRISPEECH.get(part))]


def _ljspeech_files(part: str) -> list[Remote]:
    digest = "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5"
    return [Remote("https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2", digest)]


def _libriheavy_files(part: str) -> list[Remote]:
    """The manifest and, for the three that have one, Libri-Light's archive."""
    hub = "https://huggingface.co/datasets/pkufool/libriheavy/resolve/main"
    files = [Remote(f"{hub}/libriheavy_cuts_{part}.jsonl.gz")]
    if part in ("small", "medium", "large"):
        files.append(Remote(f"https://dl.fbaipublicfiles.com/librilight/data/{part}.tar"))
    return files


SOURCES = {
    "libriheavy": Source(
        libriheavy, _libriheavy_files, ("small", "medium", "large", "dev", "test_clean", "test_other")
    ),
    "librispeech": Source(librispeech, _librispeech_files, (*_MINI, *_LIBRISPEECH)),
    "ljspeech": Source(ljspeech, _ljspeech_files, ("ljspeech",)),
    "folder": Source(folder_of_cuts),
}
