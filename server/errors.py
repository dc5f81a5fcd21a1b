"""Every error a caller can meet, and the one table that turns it into an HTTP status and a WebSocket close code.

SledTtsError
├── RequestError               the caller can fix it by sending something else
│   ├── BadJsonError           a body or frame that is not the JSON object it should be
│   ├── UnknownMessageError    a WebSocket message of an unknown type
│   ├── ProtocolError          a known message at the wrong time (text before start, two starts, ...)
│   ├── EmptyInputError        nothing to say
│   ├── InputTooLongError      text, tokens, body or prompt beyond the stated limit
│   ├── InvalidParameterError  a field with a value outside its range
│   ├── BadAudioError          a reference recording that cannot be used
│   ├── UnsupportedError       something this server, with the checkpoints it has loaded, cannot do
│   ├── ConflictError          a name that is taken
│   └── NotFoundError          an unknown model or path
│       └── VoiceNotFoundError an unknown voice
├── AuthenticationError        a missing or wrong key
├── ForbiddenOriginError       a browser's page of another site
├── OverCapacityError          every slot is taken; sent at once, never queued
├── NotReadyError              still warming up, shutting down, or the engine thread has died
├── IdleTimeoutError           the caller was silent for too long
├── SlowReaderError            the caller has not read audio for too long
└── EngineError                a failure inside synthesis
"""

from __future__ import annotations

from dataclasses import dataclass

from sled_tts.model.errors import AudioInputError, ModelError, TokenizerError


class SledTtsError(Exception):
    """Base of every error the server raises on purpose.

    `code` is stable and machine-readable; `param` names the offending field when there is one.
    """

    default_code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param


class RequestError(SledTtsError):
    """The caller can fix it by sending something else."""

    default_code = "invalid_request"


class BadJsonError(RequestError):
    """A body or frame that is not the JSON object it should be."""

    default_code = "bad_json"


class UnknownMessageError(RequestError):
    """A WebSocket message of an unknown type."""

    default_code = "unknown_message"


class ProtocolError(RequestError):
    """A known message at the wrong time."""

    default_code = "protocol_error"


class EmptyInputError(RequestError):
    """Nothing to say."""

    default_code = "empty_input"


class InputTooLongError(RequestError):
    """Text, tokens, body or prompt beyond the stated limit."""

    default_code = "input_too_long"


class InvalidParameterError(RequestError):
    """A field with a value outside its range."""

    default_code = "invalid_parameter"


class BadAudioError(RequestError):
    """A reference recording that cannot be used."""

    default_code = "bad_audio"


class UnsupportedError(RequestError):
    """Something this server, with the checkpoints it has loaded, cannot do."""

    default_code = "unsupported"


class NotFoundError(RequestError):
    """An unknown model or path."""

    default_code = "not_found"


class VoiceNotFoundError(NotFoundError):
    """An unknown voice."""


class ConflictError(RequestError):
    """A name that is taken."""

    default_code = "conflict"


class AuthenticationError(SledTtsError):
    """A missing or wrong key."""

    default_code = "unauthorized"


class ForbiddenOriginError(SledTtsError):
    """A browser's page of another site."""

    default_code = "forbidden_origin"


class OverCapacityError(SledTtsError):
    """Every slot is taken; sent at once, never queued."""

    default_code = "over_capacity"


class NotReadyError(SledTtsError):
    """Still warming up, shutting down, or the engine thread has died."""

    default_code = "not_ready"


class IdleTimeoutError(SledTtsError):
    """The caller was silent for too long."""

    default_code = "idle_timeout"


class SlowReaderError(SledTtsError):
    """The caller has not read audio for too long."""

    default_code = "slow_reader"


class EngineError(SledTtsError):
    """A failure inside synthesis."""

    default_code = "engine_error"


@dataclass(frozen=True)
class Reply:
    """How one error is answered.

    `http_status` for REST, `ws_close` for WebSockets (RFC 6455 section 7.4.1), `retry_after_s` when trying again
    later may help. `message` never holds internals: an unexpected exception is answered with a fixed sentence.
    """

    http_status: int
    ws_close: int
    code: str
    message: str
    param: str | None
    retry_after_s: int | None


# The first matching row wins, so a subclass stands above its base.
ERROR_TABLE: tuple[tuple[type[Exception], int, int], ...] = (
    (BadJsonError, 400, 1007),
    (UnknownMessageError, 400, 1003),
    (ProtocolError, 409, 1002),
    (EmptyInputError, 400, 1008),
    (InputTooLongError, 413, 1009),
    (InvalidParameterError, 422, 1008),
    (BadAudioError, 422, 1008),
    (UnsupportedError, 422, 1008),
    (NotFoundError, 404, 1008),
    (ConflictError, 409, 1008),
    (RequestError, 400, 1008),
    (AuthenticationError, 401, 1008),
    (ForbiddenOriginError, 403, 1008),
    (OverCapacityError, 503, 1013),
    (NotReadyError, 503, 1013),
    (IdleTimeoutError, 408, 1008),
    (SlowReaderError, 408, 1008),
    (SledTtsError, 500, 1011),
    (AudioInputError, 422, 1008),
    (TokenizerError, 422, 1007),
    (ModelError, 500, 1011),
    (Exception, 500, 1011),
)

_RETRY_AFTER_S = {503: 1}
_MODEL_CODES: dict[type[ModelError], str] = {AudioInputError: "bad_audio", TokenizerError: "invalid_parameter"}


def reply_for(error: BaseException) -> Reply:
    """The one way from an exception to what the caller is told."""
    row = next((row for row in ERROR_TABLE if isinstance(error, row[0])), ERROR_TABLE[-1])
    _, http_status, ws_close = row
    code, message, param = "internal_error", "the server failed to answer this request", None
    if isinstance(error, SledTtsError):
        code, message, param = error.code, error.message, error.param
    elif isinstance(error, ModelError):
        code, message, param = _MODEL_CODES.get(type(error), "model_error"), error.message, error.param
    return Reply(http_status, ws_close, code, message, param, _RETRY_AFTER_S.get(http_status))
