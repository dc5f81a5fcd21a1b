"""What is kept about one cloned voice beside its sound, and how it is written down."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from sled_tts.server.service import Voice, VoiceKind

FORMAT = 1
ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class CorruptEntryError(Exception):
    """A voice on disk that cannot be used; the message says why."""


@dataclass(frozen=True)
class VoiceEntry:
    """`text` is what the recording says; `consent` who agreed to its use, `consent_at` and `created_at` when
    (seconds since 1970); `seconds` of speech after trimming, at `rate` Hz."""

    id: str
    name: str
    text: str
    consent: str
    consent_at: int
    created_at: int
    seconds: float
    rate: int
    description: str = ""
    format: int = FORMAT

    @property
    def voice(self) -> Voice:
        return Voice(self.id, self.name, VoiceKind.CLONED, self.created_at, self.description)

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, voice_id: str) -> VoiceEntry:
        """Raises CorruptEntryError that names the key."""
        try:
            values = json.loads(data)
        except ValueError as error:
            raise CorruptEntryError(f"not JSON: {error}") from None
        if not isinstance(values, dict):
            raise CorruptEntryError("not a JSON object")
        if values.get("format") != FORMAT:
            raise CorruptEntryError(f"format {values.get('format')!r}, this version reads {FORMAT}")
        return cls(**{key: _checked(key, kind, values) for key, kind in _TYPES.items()}, id=_own(values, voice_id))


def _own(values: dict[str, Any], voice_id: str) -> str:
    if values.get("id") != voice_id:
        raise CorruptEntryError(f"id is {values.get('id')!r}, the folder is {voice_id!r}")
    return voice_id


def _checked(key: str, kind: type, values: dict[str, Any]) -> Any:
    value = values.get(key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CorruptEntryError(f"{key} is missing or no {kind.__name__}")
    return value


_TYPES: dict[str, type] = {
    field.name: {"str": str, "int": int, "float": float}[str(field.type)]
    for field in fields(VoiceEntry)
    if field.name != "id"
}
