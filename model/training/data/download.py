"""Fetching what is public: continued where it broke off, checked before it is used."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from sled_tts.model.errors import ModelError
from sled_tts.model.training.data.shards import file_sha256

_AGAIN = "run the same command again to go on"


@dataclass(frozen=True)
class Remote:
    """A public file; `sha256` where its publisher or others have told it."""

    url: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def at(self, base: str | None) -> Remote:
        """The same file on a mirror."""
        return self if base is None else Remote(f"{base.rstrip('/')}/{self.name}", self.sha256)


def download(
    remote: Remote,
    folder: Path,
    *,
    progress: Callable[[int, int | None], None] = lambda done, of: None,
    timeout_s: float = 60.0,
) -> Path:
    """The file in `folder`, fetched unless it is there; `progress` hears bytes.

    What has arrived is kept as `<name>.part`, and continued next time. Raises ModelError when the server refuses, the
    download breaks off, the disk is full, or size or checksum are wrong (then nothing is kept).
    """
    path = folder / remote.name
    if path.is_file():
        return path
    part, mark = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.etag")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        total = _fetch(remote, part, mark, progress, timeout_s)
        size = part.stat().st_size
        if total is not None and size < total:
            raise ModelError(f"{remote.url}: broke off after {size} of {total} bytes; {_AGAIN}")
        if (total is not None and size > total) or (remote.sha256 and file_sha256(part) != remote.sha256):
            part.unlink()
            raise ModelError(f"{remote.url} is not what it should be (size or checksum); it was removed; {_AGAIN}")
        part.replace(path)
        mark.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"{path} could not be written: {error}; {_AGAIN}") from error
    return path


def _fetch(
    remote: Remote, part: Path, mark: Path, progress: Callable[[int, int | None], None], timeout_s: float
) -> int | None:
    """Append to `part` what is missing; the size the whole should have, where the server tells."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if mark.is_file():
            headers["If-Range"] = mark.read_text(encoding="utf-8")
    try:
        with httpx.stream("GET", remote.url, headers=headers, follow_redirects=True, timeout=timeout_s) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                found = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("content-range", ""))
                return int(found[1]) if found else None
            if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                raise ModelError(f"{remote.url}: the server answers {response.status_code} {response.reason_phrase}")
            if response.status_code == httpx.codes.OK:
                have = 0
            if (etag := response.headers.get("etag", "")) and not etag.startswith("W/"):
                mark.write_text(etag, encoding="utf-8")
            told = response.headers.get("content-length")
            total = have + int(told) if told is not None else None
            with part.open("ab" if have else "wb") as file:
                # As it comes: whole blocks would lose what arrived of the last one.
                for block in response.iter_raw():
                    file.write(block)
                    have += len(block)
                    progress(have, total)
            return total
    except httpx.HTTPError as error:
        size = part.stat().st_size if part.is_file() else 0
        reason = str(error) or type(error).__name__
        raise ModelError(f"{remote.url}: broke off after {size} bytes ({reason}); {_AGAIN}") from error


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar archive once: files that are there with their size are left, and a mark tells when all are.

    Raises ModelError when it is damaged, leads out of `folder`, or the disk is full.
    """
    mark = archive.with_name(archive.name + ".extracted")
    digest = hashlib.sha256(f"{archive.stat().st_size} {folder.resolve()}".encode()).hexdigest()
    if mark.is_file() and mark.read_text(encoding="utf-8") == digest:
        return
    try:
        # As a stream: seeking in a compressed archive reads it again and again.
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                there = folder / member.name
                if not (member.isfile() and there.is_file() and there.stat().st_size == member.size):
                    tar.extract(member, folder, filter="data")
        mark.write_text(digest, encoding="utf-8")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ModelError(f"{archive} could not be unpacked: {error}") from error
