"""Errors as callers see them: one JSON shape for every status, and denial of a WebSocket handshake."""

from __future__ import annotations

import logging

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


def error_body(reply: Reply) -> dict[str, dict[str, str | None]]:
    """`{"error": {"message", "type", "param", "code"}}`, the shape OpenAI clients parse."""
    kind = "server_error" if reply.http_status >= 500 else "invalid_request_error"
    if reply.http_status == 401:
        kind = "authentication_error"
    return {"error": {"message": reply.message, "type": kind, "param": reply.param, "code": reply.code}}


def error_response(error: BaseException) -> JSONResponse:
    """The whole HTTP answer for an error."""
    reply = reply_for(error)
    headers = {} if reply.retry_after_s is None else {"Retry-After": str(reply.retry_after_s)}
    if reply.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(reply), status_code=reply.http_status, headers=headers)


async def send_denial(error: SledTtsError, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse an HTTP request, or a WebSocket before its handshake is accepted, with a proper HTTP answer."""
    response = error_response(error)
    if scope["type"] == "http":
        await response(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await send({"type": "websocket.close", "code": reply_for(error).ws_close, "reason": error.message[:120]})


def from_validation(details: ErrorDetails) -> RequestError:
    """One pydantic finding as an error of ours that names the field and its limit."""
    path = [str(part) for part in details["loc"] if part not in ("body", "query", "path")]
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

    async def on_known(_: Request, error: Exception) -> JSONResponse:
        return error_response(error)

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(from_validation(error.errors()[0]))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, SledTtsError):
            # FastAPI turns what is raised while a body is read (here: its size limit) into a plain 400.
            return error_response(error.__cause__)
        if error.status_code == 404:
            return error_response(NotFoundError(f"there is nothing at {request.url.path}", param="path"))
        reply = Reply(error.status_code, 1008, "http_error", str(error.detail), None, None)
        return JSONResponse(error_body(reply), status_code=error.status_code, headers=error.headers)

    async def on_unknown(request: Request, error: Exception) -> JSONResponse:
        log.error("unhandled error in %s", request.url.path, exc_info=error)
        return error_response(error)

    app.add_exception_handler(SledTtsError, on_known)
    app.add_exception_handler(ModelError, on_known)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_unknown)
