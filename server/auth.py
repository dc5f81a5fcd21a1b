"""API keys. With a key set, every path is refused without it, except the few listed here."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, MutableMapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sled_tts.server.errors import AuthenticationError
from sled_tts.server.routes.replies import send_denial

# Probes cannot hold a key; the page and the schema hold nothing that is secret.
PUBLIC_PATHS = frozenset({"/", "/health/live", "/health/ready", "/docs", "/openapi.json"})
PUBLIC_PREFIXES = ("/studio/", "/docs/assets/")
# ElevenLabs' clients may bring the key in their first message instead; the route then asks `deferred_check`.
_KEY_IN_MESSAGE = re.compile(r"/v1/text-to-speech/[^/]+/(multi-)?stream-input")
_SCHEMES = ("bearer", "token")
_DEFERRED = "sled_tts.deferred_check"


class ApiKeyMiddleware:
    """Checks `Authorization: Bearer KEY` (or `Token KEY`, as Deepgram's clients write it), `X-API-Key: KEY`,
    `xi-api-key: KEY` or, for WebSockets only (browsers cannot set headers there), `?api_key=KEY` or the subprotocols
    `token, KEY`. A WebSocket is refused at the handshake with HTTP 401."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self.app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not self._digests or _is_public(scope):
            await self.app(scope, receive, send)
            return
        offered = _offered_keys(scope)
        if any(self._matches(key) for key in offered):
            await self.app(scope, receive, send)
            return
        if not offered and scope["type"] == "websocket" and _KEY_IN_MESSAGE.fullmatch(str(scope["path"])):
            scope[_DEFERRED] = self._matches
            await self.app(scope, receive, send)
            return
        what = "the API key is wrong" if offered else "an API key is required: Authorization: Bearer KEY"
        await send_denial(AuthenticationError(what, param="authorization"), scope, receive, send)

    def _matches(self, key: str) -> bool:
        digest = sha256(key.encode()).digest()
        # Every key is compared, in constant time, so that timing tells neither which nor how much matched.
        matches = [hmac.compare_digest(digest, own) for own in self._digests]
        return any(matches)


def deferred_check(scope: MutableMapping[str, Any]) -> Callable[[str], bool] | None:
    """What tells whether a key is right, on a connection that still owes one; None where none is owed."""
    return scope.get(_DEFERRED)


def _is_public(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path = str(scope["path"])
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES)


def _offered_keys(scope: Scope) -> list[str]:
    headers = Headers(scope=scope)
    keys = [headers[name] for name in ("x-api-key", "xi-api-key") if name in headers]
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES and credentials.strip():
        keys.append(credentials.strip())
    if scope["type"] == "websocket":
        keys += parse_qs(scope.get("query_string", b"").decode("latin-1")).get("api_key", [])
        if key_scheme(scope) is not None:
            keys += scope["subprotocols"][1:2]
    return keys


def key_scheme(scope: MutableMapping[str, Any]) -> str | None:
    """The subprotocol of a WebSocket that says that the next one is a key. Browsers insist on hearing it back."""
    offered: list[str] = scope.get("subprotocols") or []
    return offered[0] if len(offered) == 2 and offered[0].lower() in _SCHEMES else None
