"""A bound on request bodies, enforced while they arrive and before anything decodes them."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sled_tts.server.errors import InputTooLongError, InvalidParameterError
from sled_tts.server.routes.replies import send_denial


class BodyLimitMiddleware:
    """Refuses bodies beyond `max_bytes` with 413: by Content-Length at once, chunked ones when they pass it."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length")
        if length is not None and not length.isdecimal():
            error = InvalidParameterError("Content-Length is not a number", param="content-length")
            await send_denial(error, scope, receive, send)
            return
        if length is not None and int(length) > self.max_bytes:
            await send_denial(self._too_long(), scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self.max_bytes:
                    raise self._too_long()
            return message

        await self.app(scope, bounded, send)

    def _too_long(self) -> InputTooLongError:
        return InputTooLongError(f"the body is larger than {self.max_bytes} bytes", param="body")
