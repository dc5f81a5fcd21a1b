"""Pages of other sites may not drive a server without a key: browsers let any page open a WebSocket anywhere."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sled_tts.server.errors import ForbiddenOriginError
from sled_tts.server.routes.replies import send_denial

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class OriginMiddleware:
    """Refuses a WebSocket handshake, and HTTP that changes anything, with 403 when a browser says that the page behind
    it is from elsewhere.

    Allowed is what has no `Origin` (no browser), the server's own pages, and `origins`; `*` allows everything. HTTP is
    covered because a form needs no preflight.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self.app = app
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" or (scope["type"] == "http" and scope["method"] not in _SAFE):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._allowed(origin.lower(), headers.get("host", "").lower()):
                error = ForbiddenOriginError(
                    f"pages of {origin} may not use this server; see cors_origin", param="origin"
                )
                await send_denial(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _allowed(self, origin: str, host: str) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        return bool(host) and urlsplit(origin).netloc == host
