"""Errors as callers see them: one JSON shape for every status, and denial of a WebSocket handshake."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from sled_tts.model.errors import ModelError
from sled_tts.server.errors import (
    BadJsonError,
    EmptyInputError,
    InputTooLongError,
    InvalidParameterError,
    NotFoundError,
    Reply,
    RequestError,
    SledTtsError,
    reply_for,
)

log = logging.getLogger(__name__)

_DEEPGRAM_PATH = "/v1/speak"

# pydantic puts the tried member of a union into a path: the name of a type, which is no field of the caller's.
_TYPE = re.compile(r"str|int|float|bool|literal\[.*|[A-Z]\w*")


def error_body(reply: Reply) -> dict[str, dict[str, str | None]]:
    """`{"error": {"message", "type", "param", "code"}}`, the shape OpenAI clients parse."""
    kind = "server_error" if reply.http_status >= 500 else "invalid_request_error"
    if reply.http_status == 401:
        kind = "authentication_error"
    return {"error": {"message": reply.message, "type": kind, "param": reply.param, "code": reply.code}}


def error_response(error: BaseException, path: str) -> JSONResponse:
    """The whole HTTP answer for an error at `path`."""
    reply = reply_for(error)
    headers = {} if reply.retry_after_s is None else {"Retry-After": str(reply.retry_after_s)}
    if reply.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if path == _DEEPGRAM_PATH:
        # Its clients tell their users this header and nothing else of a refusal.
        headers["dg-error"] = " ".join(reply.message.encode("ascii", "replace").decode().split())
    return JSONResponse(error_body(reply), status_code=reply.http_status, headers=headers)


async def send_denial(error: SledTtsError, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse an HTTP request, or a WebSocket before its handshake is accepted, with a proper HTTP answer."""
    response = error_response(error, scope["path"])
    if scope["type"] == "http":
        await response(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await send({"type": "websocket.close", "code": reply_for(error).ws_close, "reason": error.message[:120]})


def _path(details: ErrorDetails) -> list[str]:
    parts = [str(part) for part in details["loc"] if part not in ("body", "query", "path")]
    return [part for place, part in enumerate(parts) if place == 0 or not _TYPE.fullmatch(part)]


def from_validation(findings: Sequence[ErrorDetails]) -> RequestError:
    """What pydantic has found first as an error of ours that names the field and its limit.

    A value that may be of several kinds has a finding for each; the one that got deepest into it says most.
    """
    first = _path(findings[0])
    details = max((one for one in findings if _path(one)[:1] == first[:1]), key=lambda one: len(_path(one)))
    path = _path(details)
    param = ".".join(path) or None
    kind = details["type"]
    message = f"{param}: {details['msg']}" if param else details["msg"]
    if kind == "json_invalid":
        return BadJsonError(f"the body is not valid JSON: {details.get('ctx', {}).get('error', details['msg'])}")
    if kind in ("string_too_long", "too_long"):
        return InputTooLongError(message, param=param)
    if kind == "string_too_short":
        return EmptyInputError(message, param=param)
    if kind in ("model_attributes_type", "dict_type", "model_type") and not path:
        return BadJsonError("a JSON object is expected")
    return InvalidParameterError(message, param=param)


def install_error_handlers(app: FastAPI) -> None:
    """Answer every failure of a route from the one table."""

    async def on_known(request: Request, error: Exception) -> JSONResponse:
        return error_response(error, request.url.path)

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        path = request.url.path
        if isinstance(error.body, bytes) and error.body:
            # Only the media type says how a body is to be read; this one was not looked at.
            return error_response(BadJsonError("a JSON object is expected, with Content-Type: application/json"), path)
        return error_response(from_validation(error.errors()), path)

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        path = request.url.path
        if isinstance(error.__cause__, SledTtsError):
            # FastAPI turns what is raised while a body is read (here: its size limit) into a plain 400.
            return error_response(error.__cause__, path)
        if error.status_code == 400 and isinstance(error.__cause__, ValueError | RecursionError):
            return error_response(
                BadJsonError("the body is not valid JSON: it is no UTF-8, or nested too deeply"), path
            )
        if error.status_code == 404:
            return error_response(NotFoundError(f"there is nothing at {path}", param="path"), path)
        reply = Reply(error.status_code, 1008, "http_error", str(error.detail), None, None)
        return JSONResponse(error_body(reply), status_code=error.status_code, headers=error.headers)

    async def on_unknown(request: Request, error: Exception) -> JSONResponse:
        log.error("unhandled error in %s", request.url.path, exc_info=error)
        return error_response(error, request.url.path)

    app.add_exception_handler(SledTtsError, on_known)
    app.add_exception_handler(ModelError, on_known)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_unknown)
