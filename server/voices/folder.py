"""Cloned voices on disk, shared by any number of processes.

`<folder>/<id>/` holds `voice.json`, `recording.safetensors` (`pcm [N]`, mono fp32), for each codec that has been asked
for `prompt-<codec>.safetensors` (`latents [S, D]`, fp32), and for each network that is corrected in this voice
`calibration-<network>.safetensors` (`Calibration.arrays`, fp32). A voice appears and disappears by one rename of its
folder and changes by one replace of `voice.json`, so that a reader never sees half of it. Writers take a file lock.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import ConflictError, NotReadyError, UnsupportedError, VoiceNotFoundError
from sled_tts.server.logs import get_logger
from sled_tts.server.voices.entry import ID_PATTERN, CorruptEntryError, VoiceEntry
from sled_tts.server.voices.files import load_array, load_arrays, sweep, sync_folder, write_through

log = get_logger(__name__)

_META, _RECORDING = "voice.json", "recording.safetensors"
_LOCK_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Scan:
    """Voices by age, and what is wrong with those left out, by folder name."""

    entries: tuple[VoiceEntry, ...]
    problems: dict[str, str]


@dataclass
class VoiceFolder:
    """Created when the first voice is added. Any thread may use it; each call sees what is on disk now."""

    path: Path
    _known: dict[str, tuple[tuple[int, ...], VoiceEntry | str]] = field(default_factory=dict, init=False)

    def scan(self) -> Scan:
        """Every voice. A corrupt one is logged once, reported, and left out."""
        found: dict[str, tuple[tuple[int, ...], VoiceEntry | str]] = {}
        for place in self._places():
            stamp = _stamp(place)
            known = self._known.get(place.name)
            if known is not None and known[0] == stamp:
                found[place.name] = known
                continue
            value = _read(place)
            if isinstance(value, str) and not place.is_dir():
                # Deleted by somebody else since it was listed.
                continue
            found[place.name] = (stamp, value)
            if isinstance(value, str):
                log.error("voice left out", voice=place.name, problem=value)
        self._known = found
        entries = [value for _, value in found.values() if isinstance(value, VoiceEntry)]
        problems = {name: value for name, (_, value) in found.items() if isinstance(value, str)}
        return Scan(tuple(sorted(entries, key=lambda entry: (entry.created_at, entry.id))), problems)

    def add(self, entry: VoiceEntry, pcm: Float32, latents: dict[str, Float32]) -> None:
        """A new voice; `latents` by codec. Raises ConflictError for a taken name, UnsupportedError without rights."""
        with self._writing():
            self._require_free(entry.name, entry.id)
            temporary = self._aside(entry.id)
            temporary.mkdir(mode=0o700)
            try:
                write_through(temporary / _META, entry.to_json())
                write_through(temporary / _RECORDING, save({"pcm": np.ascontiguousarray(pcm, dtype=np.float32)}))
                for codec, values in latents.items():
                    write_through(temporary / _prompt_name(codec), save({"latents": values}))
                temporary.rename(self.path / entry.id)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            sync_folder(self.path)

    def change(self, voice_id: str, change: Callable[[VoiceEntry], VoiceEntry]) -> VoiceEntry:
        """Apply `change` to what is on disk at that moment. Raises VoiceNotFoundError, ConflictError."""
        with self._writing():
            place = self._place(voice_id)
            before = self._entry(place)
            after = replace(change(before), id=before.id)
            self._require_free(after.name, before.id)
            aside = place / f".{secrets.token_hex(4)}.tmp"
            write_through(aside, after.to_json())
            aside.replace(place / _META)
            sync_folder(place)
            return after

    def delete(self, voice_id: str) -> None:
        """Everything of it, the recording too; also of a corrupt one. Raises VoiceNotFoundError."""
        with self._writing():
            aside = self._aside(voice_id)
            self._place(voice_id).rename(aside)
            sync_folder(self.path)
        shutil.rmtree(aside, ignore_errors=True)

    def prompt(self, entry: VoiceEntry, codec: str, encode: Callable[[Float32, int], Float32]) -> Float32:
        """The voice as latents `[S, D]` of a codec; encoded from the recording, and kept, the first time.

        Raises VoiceNotFoundError when it has just been deleted or its sound cannot be read.
        """
        place = self._place(entry.id)
        return self._kept_one(place / _prompt_name(codec), "latents", lambda: encode(_recording(place), entry.rate))

    def register(self, entry: VoiceEntry, codec: str, listen: Callable[[Float32, int], Float32]) -> Float32:
        """Median pitch, its spread in octaves, and the pitch at which a codec's networks know the voice, `[1, 3]`;
        measured, and kept, the first time. Raises as `prompt` does."""
        place = self._place(entry.id)
        kept = place / f"register-{codec}.safetensors"
        return self._kept_one(kept, "register", lambda: listen(_recording(place), entry.rate))

    def correction(
        self, entry: VoiceEntry, network: str, listen: Callable[[Float32, int], dict[str, Float32]]
    ) -> dict[str, Float32]:
        """A calibration's arrays for a network that speaks like this voice; found, and kept, the first time. Raises as
        `prompt` does."""
        place = self._place(entry.id)
        return self._kept(
            place / f"calibration-{network}.safetensors",
            lambda kept: load_arrays(kept, 2),
            lambda: listen(_recording(place), entry.rate),
        )

    def _kept_one(self, kept: Path, key: str, make: Callable[[], Float32]) -> Float32:
        return self._kept(kept, lambda path: {key: load_array(path, key, 2)}, lambda: {key: make()})[key]

    def _kept(
        self, kept: Path, read: Callable[[Path], dict[str, Float32]], make: Callable[[], dict[str, Float32]]
    ) -> dict[str, Float32]:
        """What a file of a voice holds, or what `make` gives, which is then kept."""
        try:
            if kept.is_file():
                return read(kept)
        except CorruptEntryError as error:
            log.error("stored part of a voice made again", voice=kept.parent.name, problem=str(error))
        made = make()
        try:
            aside = kept.parent / f".{secrets.token_hex(4)}.tmp"
            write_through(aside, save(made))
            aside.replace(kept)
        except OSError as error:
            # A read-only folder: the voice works, and this is made again after the next start.
            log.warning("part of a voice not kept", voice=kept.parent.name, file=kept.name, problem=str(error))
        return made

    def _places(self) -> list[Path]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            log.error("voices cannot be read", folder=str(self.path), problem=str(error))
            return []
        return [self.path / name for name in sorted(names) if ID_PATTERN.fullmatch(name)]

    def _place(self, voice_id: str) -> Path:
        place = self.path / voice_id
        if not ID_PATTERN.fullmatch(voice_id) or not place.is_dir():
            raise VoiceNotFoundError(f"voice {voice_id!r} is unknown", param="voice")
        return place

    def _entry(self, place: Path) -> VoiceEntry:
        entry = _read(place)
        if isinstance(entry, str):
            raise VoiceNotFoundError(f"voice {place.name!r} cannot be read: {entry}", param="voice")
        return entry

    def _require_free(self, name: str, voice_id: str) -> None:
        taken = name.casefold()
        for entry in self.scan().entries:
            if entry.id != voice_id and taken in (entry.name.casefold(), entry.id):
                raise ConflictError(f"there is a voice called {name!r} already", param="name")

    def _aside(self, voice_id: str) -> Path:
        """A name beside the voices that no scan sees."""
        return self.path / f".{voice_id}-{secrets.token_hex(4)}.tmp"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self.path / ".lock", timeout=_LOCK_TIMEOUT_S):
                sweep(self.path)
                yield
        except Timeout:
            raise NotReadyError("the voices are being changed by somebody else; try again") from None
        except OSError as error:
            log.error("voices cannot be written", folder=str(self.path), problem=str(error))
            raise UnsupportedError(
                f"the server cannot write its voices: {error.strerror or 'input/output error'}", param="voice"
            ) from None


def _recording(place: Path) -> Float32:
    try:
        return load_array(place / _RECORDING, "pcm", 1)
    except CorruptEntryError as error:
        raise VoiceNotFoundError(f"voice {place.name!r} cannot be read: {error}", param="voice") from None


def _prompt_name(codec: str) -> str:
    return f"prompt-{codec}.safetensors"


def _stamp(place: Path) -> tuple[int, ...]:
    """Changes whenever the voice does; shorter when a file is missing."""
    stamp: tuple[int, ...] = ()
    for name in (_META, _RECORDING):
        with suppress(OSError):
            seen = (place / name).stat()
            stamp += (seen.st_mtime_ns, seen.st_ino, seen.st_size)
    return stamp


def _read(place: Path) -> VoiceEntry | str:
    """The entry, or why there is none."""
    try:
        entry = VoiceEntry.from_json((place / _META).read_bytes(), place.name)
        with safe_open(place / _RECORDING, framework="numpy") as file:
            if list(file.keys()) != ["pcm"]:
                raise CorruptEntryError(f"{_RECORDING} holds no pcm")
    except CorruptEntryError as error:
        return str(error)
    except FileNotFoundError as error:
        return f"{Path(error.filename or str(error)).name} is missing"
    except (OSError, SafetensorError, UnicodeDecodeError) as error:
        return f"unreadable: {error}"
    return entry
