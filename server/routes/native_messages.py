"""Messages of `WS /v1/stream` that clients send, and how they are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sled_tts.server.audio.encoder import MAX_RATE, MIN_RATE
from sled_tts.server.errors import RequestError, UnknownMessageError
from sled_tts.server.routes.replies import from_validation


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Start(_Message):
    """Opens an utterance. `sample_rate` in Hz (the model's own by default), `n`:`m` text and speech pacing."""

    type: Literal["start"]
    id: str | None = Field(None, min_length=1, max_length=64)
    model: str | None = None
    voice: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    cfg_scale: float | None = Field(None, ge=0.0, le=10.0)
    n: int | None = Field(None, ge=1, le=2048)
    m: int | None = Field(None, ge=1, le=2048)
    max_seconds: float | None = Field(None, gt=0, le=600)
    normalize: bool = True
    timings: bool = False
    speed: float = Field(1.0, ge=0.25, le=4.0)
    format: Literal["s16le", "f32le", "mulaw", "alaw"] = "s16le"
    sample_rate: int | None = Field(None, ge=MIN_RATE, le=MAX_RATE)


class Text(_Message):
    """More text, concatenated verbatim to what came before."""

    type: Literal["text"]
    text: str


class Tokens(_Message):
    """More text as subword ids, without `<s>` and `</s>`."""

    type: Literal["tokens"]
    tokens: tuple[Annotated[int, Field(ge=0)], ...] = Field(max_length=4096, strict=False)


class Flush(_Message):
    """Speak what is there without waiting for a word to be completed."""

    type: Literal["flush"]


class End(_Message):
    """No more text; `done` follows the last audio."""

    type: Literal["end"]


class Cancel(_Message):
    """Stop at once; `done` with finish reason `cancelled` follows."""

    type: Literal["cancel"]


class KeepAlive(_Message):
    """Nothing but a sign of life; resets the idle timeout."""

    type: Literal["keepalive"]


ClientMessage = Start | Text | Tokens | Flush | End | Cancel | KeepAlive
_TYPES = ("start", "text", "tokens", "flush", "end", "cancel", "keepalive")
_ADAPTER: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


def parse_message(data: dict[str, Any]) -> ClientMessage:
    """One message. UnknownMessageError, or an error that names the field and its limit."""
    kind = data.get("type")
    if kind not in _TYPES:
        raise UnknownMessageError(f"unknown message type {kind!r}; known: {', '.join(_TYPES)}", param="type")
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        raise _without_tag(error, str(kind)) from None


def _without_tag(error: ValidationError, kind: str) -> RequestError:
    findings = error.errors()
    for details in findings:
        loc = details["loc"]
        # pydantic puts the union's tag first; callers know the field only.
        details["loc"] = loc[1:] if loc and loc[0] == kind else loc
    return from_validation(findings)
