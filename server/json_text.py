"""JSON from outside."""

from __future__ import annotations

from typing import Any

import orjson

from sled_tts.server.errors import BadJsonError


def json_object(text: str | bytes, what: str = "the message") -> dict[str, Any]:
    """A JSON object. Raises BadJsonError about `what`, for nesting beyond the parser's bound too."""
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadJsonError(f"{what} is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadJsonError(f"{what} must be a JSON object")
    return data
