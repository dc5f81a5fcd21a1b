"""Addresses that clients ask for when their URL is wrong: 404, and what it should have been."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.websockets import WebSocket

from sled_tts.server.errors import NotFoundError
from sled_tts.server.routes.replies import send_denial

router = APIRouter(include_in_schema=False)

_METHODS = ["GET", "POST", "DELETE"]


@router.api_route("/v1/audio/speech/{rest:path}", methods=_METHODS)
async def doubled_path(rest: str) -> None:
    """The whole path was pasted as the base URL, and the client has appended its own."""
    raise NotFoundError(f"the base URL should end in /v1, not in /v1/audio/speech (asked for {rest})", param="path")


@router.api_route("/v1/v1/{rest:path}", methods=_METHODS)
async def doubled_version(rest: str) -> None:
    """For clients that append /v1 by themselves."""
    raise NotFoundError(f"the base URL should not end in /v1: this client appends it (asked for {rest})", param="path")


@router.api_route("/audio/{rest:path}", methods=_METHODS)
@router.api_route("/models", methods=_METHODS)
async def missing_version(request: Request) -> None:
    """For clients that append nothing."""
    raise NotFoundError(f"the base URL should end in /v1 (asked for {request.url.path})", param="path")


@router.get("/v1/stream")
@router.get("/tts/websocket")
@router.get("/v1/text-to-speech/{voice}/stream-input")
@router.get("/v1/text-to-speech/{voice}/multi-stream-input")
async def no_upgrade(voice: str = "") -> None:
    """Opened in a browser, or by a client that was given http:// for ws://."""
    raise NotFoundError("this is a WebSocket: its URL begins with ws:// or wss://", param="path")


@router.websocket("/{rest:path}")
async def no_socket(socket: WebSocket, rest: str) -> None:
    """Otherwise the handshake would be answered with an empty 403, which reads like a wrong key."""
    known = "/v1/stream, /tts/websocket, /v1/speak, /v1/text-to-speech/{voice}/stream-input and .../multi-stream-input"
    error = NotFoundError(f"there is no WebSocket at /{rest}; there is one at {known}", param="path")
    await send_denial(error, socket.scope, socket.receive, socket.send)
