"""Manifests of corpora as they are on disk, downloads that break off, and synthetic readers."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner

from sled_tts.model.errors import ModelError

pytest.importorskip("lhotse", reason="the train extra is not installed")

from sled_tts.model.training.data.cli import app
from sled_tts.model.training.data.download import Remote, download, extract
from sled_tts.model.training.manifests import Limits, read_manifest
from tests.model.test_training_data import RATE, cut, voice, write


def sound(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, voice(seconds, 150), RATE)
    return path


def prepare(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def cuts_of(path: Path) -> list[Any]:
    cuts, report = read_manifest(path, Limits())
    assert not report.problems
    return cuts


def librispeech(folder: Path) -> Path:
    for part, speaker in (("train-clean-5", "19"), ("dev-clean-2", "84")):
        chapter = folder / "LibriSpeech" / part / speaker / "7"
        lines = []
        for number in range(2):
            sound(chapter / f"{speaker}-7-000{number}.flac", 0.5 + number)
            lines.append(f"{speaker}-7-000{number} THE WORDS OF {number}\n")
        (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def test_librispeech_by_its_transcripts(tmp_path: Path) -> None:
    source = librispeech(tmp_path / "src")
    status, said = prepare("librispeech", source, tmp_path / "out")
    assert status == 0
    assert said.count("2 usable utterances") == 2
    first, second = cuts_of(tmp_path / "out" / "train-clean-5.jsonl")
    assert (first.id, first.supervisions[0].text, first.supervisions[0].speaker) == (
        "19-7-0000", "the words of 0", "librispeech-19",
    )  # fmt: skip
    assert second.duration == 1.5
    assert first.load_audio().shape == (1, RATE // 2)
    status, said = prepare("librispeech", source, tmp_path / "one", "--part", "dev-clean-2")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["dev-clean-2.jsonl"]
    assert prepare("librispeech", source, tmp_path / "x", "--part", "test")[0] == 1


def test_ljspeech_by_its_table(tmp_path: Path) -> None:
    root = tmp_path / "src" / "LJSpeech-1.1"
    sound(root / "wavs" / "LJ001-0001.wav", 1.0)
    sound(root / "wavs" / "LJ001-0002.wav", 1.0)
    table = "LJ001-0001|In 1455,|In fourteen fifty-five,\nLJ001-0002|As it is|\nLJ001-0003|Gone|Gone\nno text\n"
    (root / "metadata.csv").write_text(table, encoding="utf-8")
    status, said = prepare("ljspeech", tmp_path / "src", tmp_path / "out")
    assert status == 1
    assert "1 with a missing audio file: LJ001-0003" in said
    assert "1 with no text beside its id: line 4" in said
    assert not list((tmp_path / "out").iterdir()), "nothing is written of what is not whole"
    assert prepare("ljspeech", tmp_path / "src", tmp_path / "out", "--skip-bad")[0] == 0
    found = cuts_of(tmp_path / "out" / "ljspeech.jsonl")
    assert [c.supervisions[0].text for c in found] == ["In fourteen fifty-five,", "As it is"]


def test_libriheavy_takes_the_books_text_and_finds_the_recordings(tmp_path: Path) -> None:
    sound(tmp_path / "src" / "librilight" / "small" / "100" / "sea.flac", 3.0)
    data = [cut(f"small/100/sea_{i}", "download/librilight/small/100/sea.flac", 1.0, text="") for i in range(3)]
    for number, entry in enumerate(data):
        entry["start"] = float(number)
        entry["recording"] |= {"num_samples": 3 * RATE, "duration": 3.0}
        entry["supervisions"][0]["custom"] = {"texts": [f"Book, {number}.", "ASR"], "pre_texts": ["", ""]}
    data[2]["duration"] = 5.0
    with gzip.open(tmp_path / "src" / "libriheavy_cuts_small.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in data)
    status, said = prepare("libriheavy", tmp_path / "src", tmp_path / "out")
    assert status == 1
    assert "1 with a start or duration outside its recording: small/100/sea_2" in said
    assert prepare("libriheavy", tmp_path / "src", tmp_path / "out", "--skip-bad")[0] == 0
    found = cuts_of(tmp_path / "out" / "libriheavy_cuts_small.jsonl.gz")
    assert [(c.start, c.supervisions[0].text) for c in found] == [(0.0, "Book, 0."), (1.0, "Book, 1.")]
    assert found[1].load_audio().shape == (1, RATE)
    first = (tmp_path / "out" / "libriheavy_cuts_small.jsonl.gz").read_bytes()
    prepare("libriheavy", tmp_path / "src", tmp_path / "out", "--skip-bad")
    assert (tmp_path / "out" / "libriheavy_cuts_small.jsonl.gz").read_bytes() == first


def test_a_folder_with_cuts_is_checked_against_its_recordings(tmp_path: Path) -> None:
    source = tmp_path / "src"
    sound(source / "kim" / "a.wav", 2.0)
    sound(source / "kim" / "b.wav", 1.0)
    (source / "c.wav").write_bytes(b"no sound")
    entries = [
        cut("a", "kim/a.wav", 2.0, speaker=None),
        cut("b", "kim/b.wav", 2.0),
        cut("c", "c.wav", 1.0),
        cut("a", "kim/a.wav", 1.0),
    ]
    write(source, entries).rename(source / "cuts_train.jsonl")
    status, said = prepare("folder", source, tmp_path / "out", "--longest-s", "1.5")
    assert status == 1
    assert "0 usable" in said
    status, said = prepare("folder", source, tmp_path / "out", "--skip-bad")
    assert status == 0
    assert "1 with a start or duration outside its recording: b" in said
    assert "1 with an unreadable audio file: c" in said
    assert "1 with an id that was there before: a" in said
    (only,) = cuts_of(tmp_path / "out" / "cuts_train.jsonl")
    assert only.supervisions[0].speaker == "kim"


def test_a_folder_of_recordings_with_texts_beside_them(tmp_path: Path) -> None:
    sound(tmp_path / "own" / "me" / "one.wav", 1.0).with_suffix(".txt").write_text("Some\nwords. ", encoding="utf-8")
    sound(tmp_path / "own" / "two.wav", 1.0)
    status, said = prepare("folder", tmp_path / "own", tmp_path / "out", "--skip-bad")
    assert status == 0
    assert "1 with no .txt beside it: two.wav" in said
    (only,) = cuts_of(tmp_path / "out" / "own.jsonl")
    assert (only.id, only.supervisions[0].text, only.supervisions[0].speaker) == ("me/one", "Some words.", "me")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("folder", "nowhere"), "there is no folder"),
        (("librispeech", "."), "holds no librispeech corpus"),
        (("ljspeech", "."), "no metadata.csv"),
        (("synthetic", "none.txt"), "there is no text"),
        (("folder", ".", "--download"), "nothing to download"),
        (("librispeech", ".", "--download"), "say which parts"),
    ],
)
def test_what_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    kind, source, *options = arguments
    status, output = prepare(kind, source, "out", *options)
    assert status == 1
    assert said in output


@dataclass
class Site:
    """A site whose connections break off after some bytes, once for each entry of `breaks`."""

    files: dict[str, bytes]
    breaks: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    here = Site({})

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content, wanted = here.files.get(self.path.lstrip("/")), self.headers.get("Range")
            here.asked.append(wanted)
            if content is None:
                self.send_error(404)
                return
            etag, first = f'"{hashlib.sha256(content).hexdigest()[:8]}"', 0
            if wanted and here.ranges and self.headers.get("If-Range", etag) == etag:
                first = int(wanted.removeprefix("bytes=").rstrip("-"))
                if first >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(content) - first))
            self.send_header("ETag", etag)
            self.end_headers()
            most = here.breaks.pop(0) if here.breaks else len(content)
            self.wfile.write(content[first : first + most])
            self.close_connection = first + most < len(content)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield here
    server.shutdown()
    thread.join()
    server.server_close()


def big() -> bytes:
    return b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(3000))


def test_a_download_that_breaks_off_is_continued(site: Site, tmp_path: Path) -> None:
    content = big()
    site.files["a.tar"], site.breaks = content, [40_000, 20_000]
    remote = Remote(f"{site.url}/a.tar", hashlib.sha256(content).hexdigest())
    for size in (40_000, 60_000):
        with pytest.raises(ModelError, match=rf"broke off after {size} .*run the same command again"):
            download(remote, tmp_path)
        assert (tmp_path / "a.tar.part").read_bytes() == content[:size]
        assert not (tmp_path / "a.tar").exists()
    seen: list[int] = []
    assert download(remote, tmp_path, progress=lambda done, of: seen.append(done)).read_bytes() == content
    assert site.asked == [None, "bytes=40000-", "bytes=60000-"]
    assert (min(seen) > 60_000, max(seen)) == (True, len(content))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
    download(remote, tmp_path)
    assert len(site.asked) == 3, "what is there is not fetched again"


def test_a_download_starts_over_when_the_file_has_changed_or_cannot_be_continued(site: Site, tmp_path: Path) -> None:
    site.files["a"], site.breaks = big(), [1000]
    with pytest.raises(ModelError, match="broke off"):
        download(Remote(f"{site.url}/a"), tmp_path)
    site.files["a"] = big()[::-1]
    assert download(Remote(f"{site.url}/a"), tmp_path).read_bytes() == big()[::-1]
    site.files["b"], site.ranges, site.breaks = big(), False, [1000]
    with pytest.raises(ModelError, match="broke off"):
        download(Remote(f"{site.url}/b"), tmp_path)
    assert download(Remote(f"{site.url}/b"), tmp_path).read_bytes() == big()


def test_what_is_not_what_it_should_be_is_not_kept(site: Site, tmp_path: Path) -> None:
    site.files["a"] = big()
    with pytest.raises(ModelError, match="not what it should be"):
        download(Remote(f"{site.url}/a", "0" * 64), tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".etag"]
    with pytest.raises(ModelError, match="answers 404"):
        download(Remote(f"{site.url}/none"), tmp_path)
    with pytest.raises(ModelError, match="broke off after 0 bytes"):
        download(Remote("http://127.0.0.1:9/a"), tmp_path)


def test_a_whole_part_that_was_not_yet_renamed_is_taken(site: Site, tmp_path: Path) -> None:
    site.files["a"] = big()
    (tmp_path / "a.part").write_bytes(big())
    assert download(Remote(f"{site.url}/a"), tmp_path).read_bytes() == big()


def archived(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder / "LibriSpeech", "LibriSpeech")
    return buffer.getvalue()


def test_from_a_mirror_to_manifests_with_an_interruption(site: Site, tmp_path: Path) -> None:
    site.files["train-clean-5.tar.gz"] = archived(librispeech(tmp_path / "made"))
    site.breaks = [1000]
    command = ("librispeech", tmp_path / "src", tmp_path / "out", "--download", "--base-url", site.url,
               "--part", "train-clean-5")  # fmt: skip
    status, said = prepare(*command)
    assert status == 1
    assert "broke off after 1000" in said.replace("\n", " ")
    status, said = prepare(*command)
    assert status == 0
    assert len(cuts_of(tmp_path / "out" / "train-clean-5.jsonl")) == 2
    assert site.asked == [None, "bytes=1000-"]


def test_a_damaged_archive_and_one_that_leads_out_are_refused(tmp_path: Path) -> None:
    data = archived(librispeech(tmp_path / "made"))
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="could not be unpacked"):
        extract(tmp_path / "cut.tar.gz", tmp_path / "out")
    (tmp_path / "cut.tar.gz").write_bytes(data)
    extract(tmp_path / "cut.tar.gz", tmp_path / "out")
    for path in (tmp_path / "made").rglob("*.flac"):
        assert (tmp_path / "out" / path.relative_to(tmp_path / "made")).read_bytes() == path.read_bytes()
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(tmp_path / "cut.tar.gz", "../evil")
    with pytest.raises(ModelError, match="could not be unpacked"):
        extract(tmp_path / "evil.tar", tmp_path / "out")
    assert not (tmp_path / "evil").exists()


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_synthetic_readers_take_turns_and_nothing_is_read_twice(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text('One "fine" day.\n\nTwo.\nThree of them.\n', encoding="utf-8")
    command = ("synthetic", tmp_path / "text.txt", tmp_path / "out", "--voice", "flite:slt", "--voice", "flite:rms")
    assert prepare(*command)[0] == 0
    found = cuts_of(tmp_path / "out" / "synthetic.jsonl")
    assert [(c.supervisions[0].speaker, c.supervisions[0].text) for c in found] == [
        ("flite-slt", 'One "fine" day.'), ("flite-slt", "Three of them."), ("flite-rms", "Two."),
    ]  # fmt: skip
    sounds = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.wav")}
    assert len(sounds) == 3
    lost = sorted(sounds)[0]
    before = lost.read_bytes()
    lost.unlink()
    lost.with_suffix(".part.wav").write_bytes(b"half")
    assert prepare(*command)[0] == 0
    assert lost.read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.wav") if p != lost} == {
        p: t for p, t in sounds.items() if p != lost
    }
    status, said = prepare("synthetic", tmp_path / "text.txt", tmp_path / "out", "--voice", "flite:nobody")
    assert status == 1
    assert "it has kal" in said.replace("\n", " ")


@pytest.mark.skipif(shutil.which("festival") is None, reason="festival is not installed")
def test_festival_reads_what_has_quotes_and_accents(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text('She said "no \\ café".\n', encoding="utf-8")
    there = prepare("synthetic", tmp_path / "text.txt", tmp_path / "x", "--voice", "festival:nobody")[1]
    name = there.replace("\n", "").split("it has ")[1].split(",")[0].strip()
    assert prepare("synthetic", tmp_path / "text.txt", tmp_path / "out", "--voice", f"festival:{name}")[0] == 0
    (only,) = cuts_of(tmp_path / "out" / "synthetic.jsonl")
    assert only.duration > 0.5
