"""Voices a page at a time, for protocols that list them so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sled_tts.server.service import Voice


@dataclass(frozen=True)
class VoicePage:
    """`total` counts what was found, on all pages."""

    voices: Sequence[Voice]
    has_more: bool
    total: int


def voice_page(
    listed: Sequence[Voice], size: int, *, search: str = "", after: str | None = None, before: str | None = None
) -> VoicePage:
    """At most `size` voices with `search` in their id or name, in the given order: those after or before a voice's id,
    from the beginning on without either and for one that is not there."""
    found = [voice for voice in listed if search.lower() in f"{voice.id} {voice.name}".lower()]
    ids, left = [voice.id for voice in found], found
    if after in ids:
        left = found[ids.index(after) + 1 :]
    elif before in ids:
        left = found[: ids.index(before)][-size:]
    return VoicePage(left[:size], len(left) > size, len(found))
