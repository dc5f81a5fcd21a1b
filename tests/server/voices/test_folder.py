"""Voices on disk: restarts, several processes, and what is left of a broken one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import ConflictError, UnsupportedError, VoiceNotFoundError
from sled_tts.server.voices.entry import VoiceEntry
from sled_tts.server.voices.folder import VoiceFolder

PCM = np.linspace(-0.5, 0.5, 16_000, dtype=np.float32)
LATENTS = np.arange(12, dtype=np.float32).reshape(6, 2)


def entry(voice_id: str, name: str | None = None, created_at: int = 5) -> VoiceEntry:
    return VoiceEntry(voice_id, name or voice_id.upper(), "what is said", "Anna agreed", 4, created_at, 1.0, 16_000)


@pytest.fixture
def folder(tmp_path: Path) -> VoiceFolder:
    return VoiceFolder(tmp_path / "deep" / "voices")


def never(_: Float32, __: int) -> Float32:
    raise AssertionError("encoded a second time")


def test_a_voice_survives_a_restart(folder: VoiceFolder) -> None:
    assert folder.scan().entries == ()
    assert not folder.path.exists()
    anna, ben = entry("anna", created_at=9), entry("ben", created_at=7)
    folder.add(anna, PCM, {"codec-a": LATENTS})
    folder.add(ben, PCM, {})
    again = VoiceFolder(folder.path)
    assert again.scan().entries == (ben, anna)
    assert np.array_equal(again.prompt(anna, "codec-a", never), LATENTS)
    assert folder.path.stat().st_mode & 0o077 == 0
    renamed = again.change("anna", lambda before: replace(before, name="Anne"))
    assert folder.scan().entries[1] == renamed == replace(anna, name="Anne")
    folder.delete("anna")
    assert again.scan().entries == (ben,)
    assert sorted(os.listdir(folder.path)) == [".lock", "ben"]


def test_another_codec_is_encoded_once_from_what_was_kept(folder: VoiceFolder) -> None:
    folder.add(entry("anna"), PCM, {"codec-a": LATENTS})
    asked: list[tuple[Float32, int]] = []

    def encode(pcm: Float32, rate: int) -> Float32:
        asked.append((pcm, rate))
        return LATENTS + 1

    assert np.array_equal(folder.prompt(entry("anna"), "codec-b", encode), LATENTS + 1)
    assert np.array_equal(asked[0][0], PCM)
    assert asked[0][1] == 16_000
    assert np.array_equal(VoiceFolder(folder.path).prompt(entry("anna"), "codec-b", never), LATENTS + 1)
    # A broken prompt is made again; a broken recording is the end of the voice.
    (folder.path / "anna" / "prompt-codec-b.safetensors").write_bytes(b"no tensors")
    assert np.array_equal(folder.prompt(entry("anna"), "codec-b", encode), LATENTS + 1)
    assert len(asked) == 2
    (folder.path / "anna" / "recording.safetensors").write_bytes(b"")
    with pytest.raises(VoiceNotFoundError, match="cannot be read"):
        folder.prompt(entry("anna"), "codec-c", encode)


def test_names_are_taken_once_and_ids_lead_nowhere_else(folder: VoiceFolder) -> None:
    folder.add(entry("anna"), PCM, {})
    folder.add(entry("ben"), PCM, {})
    with pytest.raises(ConflictError, match="'anna'"):
        folder.add(entry("carl", name="anna"), PCM, {})
    with pytest.raises(ConflictError):
        folder.change("ben", lambda before: replace(before, name="ANNA"))
    folder.change("ben", lambda before: replace(before, name="Ben"))
    for wrong in ("nobody", "../ben", "", ".", "..", ".lock", "a/b", "BEN"):
        with pytest.raises(VoiceNotFoundError):
            folder.delete(wrong)
    assert len(folder.scan().entries) == 2


def _rewrite(place: Path, **changes: object) -> None:
    values = json.loads((place / "voice.json").read_text())
    for key, value in changes.items():
        if value is None:
            del values[key]
        else:
            values[key] = value
    (place / "voice.json").write_text(json.dumps(values))


CORRUPT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no json": (lambda p: (p / "voice.json").write_text("{oops"), "not JSON"),
    "not unicode": (lambda p: (p / "voice.json").write_bytes(b"\xff\xfe\x00"), "not JSON|unreadable"),
    "a list": (lambda p: (p / "voice.json").write_text("[]"), "not a JSON object"),
    "empty": (lambda p: (p / "voice.json").write_text(""), "not JSON"),
    "of the future": (lambda p: _rewrite(p, format=99), "format 99"),
    "without text": (lambda p: _rewrite(p, text=None), "text is missing"),
    "a wrong type": (lambda p: _rewrite(p, created_at="today"), "created_at"),
    "a flag": (lambda p: _rewrite(p, rate=True), "rate"),
    "another's id": (lambda p: _rewrite(p, id="ben"), "id is 'ben'"),
    "no metadata": (lambda p: (p / "voice.json").unlink(), "voice.json is missing"),
    "no recording": (lambda p: (p / "recording.safetensors").unlink(), "recording.safetensors is missing"),
    "half a recording": (lambda p: os.truncate(p / "recording.safetensors", 1000), "unreadable"),
    "nothing recorded": (lambda p: os.truncate(p / "recording.safetensors", 0), "unreadable"),
    "a folder for a file": (lambda p: ((p / "voice.json").unlink(), (p / "voice.json").mkdir()), "unreadable"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "reason"), CORRUPT.values(), ids=CORRUPT.keys())
def test_a_corrupt_entry_is_reported_and_left_out(
    folder: VoiceFolder, damage: Callable[[Path], object], reason: str
) -> None:
    folder.add(entry("anna"), PCM, {})
    folder.add(entry("good"), PCM, {})
    assert len(folder.scan().entries) == 2
    damage(folder.path / "anna")
    with capture_logs() as logs:
        for _ in range(3):
            scan = folder.scan()
    assert [e.id for e in scan.entries] == ["good"]
    assert list(scan.problems) == ["anna"]
    assert re.search(reason, scan.problems["anna"])
    assert [(line["event"], line["voice"]) for line in logs] == [("voice left out", "anna")]
    with pytest.raises(VoiceNotFoundError):
        folder.change("anna", lambda before: before)
    folder.add(entry("new"), PCM, {})
    folder.delete("anna")
    assert folder.scan().problems == {}


def test_what_a_dead_process_left_is_not_seen_and_goes_away(folder: VoiceFolder) -> None:
    folder.add(entry("anna"), PCM, {})
    old, young = folder.path / ".ben-01234567.tmp", folder.path / ".carl-01234567.tmp"
    for leftover in (old, young):
        leftover.mkdir()
        (leftover / "voice.json").write_text("{")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    (folder.path / "notes.txt").write_text("mine")
    assert folder.scan().problems == {}
    folder.add(entry("dora"), PCM, {})
    assert [e.id for e in folder.scan().entries] == ["anna", "dora"]
    assert (old.exists(), young.exists()) == (False, True)


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = VoiceFolder(tmp_path / "file" / "voices")
    assert folder.scan().entries == ()
    with pytest.raises(UnsupportedError, match="cannot write its voices"):
        folder.add(entry("anna"), PCM, {})


def test_readers_never_see_half_of_a_change(folder: VoiceFolder) -> None:
    folder.add(entry("anna"), PCM, {})
    done = threading.Event()

    def write() -> None:
        for k in range(25):
            folder.change("anna", lambda before, k=k: replace(before, name=f"Anna {k}", description="x" * (k * 50)))
            folder.add(entry(f"v{k}"), PCM, {"c": LATENTS})
            folder.delete(f"v{k}")
        done.set()

    writing = threading.Thread(target=write)
    writing.start()
    reader, scans = VoiceFolder(folder.path), 0
    while not done.is_set():
        scan = reader.scan()
        assert scan.problems == {}
        assert [e.id for e in scan.entries if e.id == "anna"] == ["anna"]
        scans += 1
    writing.join()
    assert scans > 10


_WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
from sled_tts.server.errors import ConflictError, VoiceNotFoundError
from sled_tts.server.voices.folder import VoiceFolder
from tests.server.voices.test_folder import LATENTS, PCM, entry
folder, who = VoiceFolder(Path(sys.argv[1])), sys.argv[2]
won = 0
for k in range(8):
    folder.add(entry(f"{who}{k}"), PCM, {"c": LATENTS})
    try:
        folder.add(entry(f"{who}shared{k}", name=f"Shared {k}"), PCM, {})
        won += 1
    except ConflictError:
        pass
    folder.change("common", lambda before: replace(before, description=before.description + who))
print(won)
"""


def test_several_processes_edit_at_once(folder: VoiceFolder) -> None:
    folder.add(entry("common"), PCM, {})
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(folder.path), who],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[3],
        )
        for who in "ab"
    ]
    won = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    scan = folder.scan()
    assert scan.problems == {}
    found = {e.id: e for e in scan.entries}
    assert {f"{who}{k}" for who in "ab" for k in range(8)} <= set(found)
    # Each contested name went to exactly one of them, and no edit of the common voice was lost.
    assert sum(won) == 8
    assert sorted(e.name for e in scan.entries if e.name.startswith("Shared")) == [f"Shared {k}" for k in range(8)]
    assert sorted(found["common"].description) == ["a"] * 8 + ["b"] * 8
