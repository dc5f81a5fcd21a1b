"""OpenAI's `stream_format: sse`: the audio in server-sent events, each with a piece of the encoded stream."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from sled_tts.server.errors import reply_for
from sled_tts.server.logs import get_logger
from sled_tts.server.routes.replies import error_body
from sled_tts.server.routes.speech_stream import SpokenBody

log = get_logger(__name__)

MEDIA_TYPE = "text/event-stream"


def _event(kind: str, fields: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


async def speech_events(body: SpokenBody, text: str) -> AsyncIterator[bytes]:
    """`speech.audio.delta`s, then `speech.audio.done`, or `speech.audio.error` when the speech is not complete.

    Of the usage, `input_tokens` are the characters of the text and `output_tokens` the latents spoken.
    """
    try:
        async with aclosing(body.audio()) as pieces:
            async for data in pieces:
                yield _event("speech.audio.delta", {"audio": base64.b64encode(data).decode()})
    except Exception as error:
        reply = reply_for(error)
        if reply.http_status >= 500:
            log.error("synthesis failed in an event stream", exc_info=error)
        yield _event("speech.audio.error", error_body(reply))
        return
    spoken = body.finished.frames if body.finished else 0
    usage = {"input_tokens": len(text), "output_tokens": spoken, "total_tokens": len(text) + spoken}
    yield _event("speech.audio.done", {"usage": usage})
