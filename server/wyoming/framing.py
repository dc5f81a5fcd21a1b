"""Wyoming's framing: a JSON line, then as many bytes of JSON data and of payload as the line says."""

from __future__ import annotations

from asyncio import IncompleteReadError, LimitOverrunError, StreamReader
from dataclasses import dataclass, field
from typing import Any

import orjson

from sled_tts.server.errors import BadJsonError, InputTooLongError
from sled_tts.server.json_text import json_object

# What the protocol's own package writes; peers do not insist on it.
_VERSION = "1.10.2"


@dataclass(frozen=True)
class WyomingEvent:
    """`data` is JSON; `payload` is binary, PCM for audio."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        """As it goes over the wire."""
        head: dict[str, Any] = {"type": self.kind, "version": _VERSION}
        data = orjson.dumps(self.data) if self.data else b""
        if data:
            head["data_length"] = len(data)
        if self.payload:
            head["payload_length"] = len(self.payload)
        return orjson.dumps(head) + b"\n" + data + self.payload


async def read_event(reader: StreamReader, max_bytes: int) -> WyomingEvent | None:
    """The next event, None at the end of the stream, also in the middle of an event.

    `max_bytes` bounds data and payload (the reader's own limit bounds the line). Raises BadJsonError,
    InputTooLongError; the stream cannot be read on after either.
    """
    try:
        line = await reader.readuntil(b"\n")
        head = json_object(line, "the event")
        kind = head.get("type")
        if not isinstance(kind, str):
            raise BadJsonError("an event needs a type", param="type")
        sizes = [_length(head, name, max_bytes) for name in ("data_length", "payload_length")]
        data = head.get("data") or {}
        if not isinstance(data, dict):
            raise BadJsonError("the data of an event must be a JSON object", param="data")
        if sizes[0]:
            data = data | json_object(await reader.readexactly(sizes[0]), "the event")
        payload = await reader.readexactly(sizes[1]) if sizes[1] else b""
    except IncompleteReadError:
        return None
    except LimitOverrunError:
        raise InputTooLongError("the line of an event is too long", param="type") from None
    return WyomingEvent(kind, data, payload)


def _length(head: dict[str, Any], name: str, limit: int) -> int:
    value = head.get(name) or 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadJsonError(f"{name} must be a length in bytes", param=name)
    if value > limit:
        raise InputTooLongError(f"{name} may be at most {limit} bytes", param=name)
    return value
