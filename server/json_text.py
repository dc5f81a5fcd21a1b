"""JSON from outside."""

from __future__ import annotations

import re
from typing import Any

import orjson

from sled_tts.server.errors import BadJsonError

# An escaped backslash, a whole pair, or half of one.
_ESCAPES = re.compile(r"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)")


def json_object(text: str | bytes, what: str = "the message") -> dict[str, Any]:
    """A JSON object. Raises BadJsonError about `what`, for nesting beyond the parser's bound too.

    Half of a character outside the basic plane, which is what programs that cut texts by UTF-16 units send of an emoji,
    is read as U+FFFD: it is no reason to lose everything else that is said on a connection.
    """
    try:
        try:
            data = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            if "surrogate" not in str(error):
                raise
            decoded = text if isinstance(text, str) else text.decode(errors="replace")
            data = orjson.loads(_ESCAPES.sub(lambda found: r"\ufffd" if found[1] else found[0], decoded))
    except orjson.JSONDecodeError as error:
        raise BadJsonError(f"{what} is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadJsonError(f"{what} must be a JSON object")
    return data
