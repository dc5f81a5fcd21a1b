"""ElevenLabs' messages: queries, what its clients send, the shapes they read."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from sled_tts.server.audio.formats import AudioFormat, Codec
from sled_tts.server.errors import InvalidParameterError, Reply
from sled_tts.server.routes.elevenlabs_alignment import Character
from sled_tts.server.routes.replies import from_validation

# Whatever went wrong, clients look for this code in the message; the close frame says more.
_ERROR_CODE = 1008
DEFAULT_FORMAT = "mp3_44100_128"
# Whether numbers, dates and the like are written out; `auto` is `on`, since it costs no time here.
Normalization = Literal["auto", "on", "off"]


_RATES = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def _formats() -> dict[str, AudioFormat]:
    formats = {f"pcm_{r}": AudioFormat(Codec.PCM_S16LE, r) for r in _RATES}
    for rate, bitrates in ((22_050, (32,)), (24_000, (48,)), (44_100, (32, 64, 96, 128, 192))):
        formats |= {f"mp3_{rate}_{kbit}": AudioFormat(Codec.MP3, rate, 1000 * kbit) for kbit in bitrates}
    formats |= {f"opus_48000_{kbit}": AudioFormat(Codec.OPUS, 48_000, 1000 * kbit) for kbit in (32, 64, 96, 128, 192)}
    return formats | {"ulaw_8000": AudioFormat(Codec.MULAW, 8_000), "alaw_8000": AudioFormat(Codec.ALAW, 8_000)}


OUTPUT_FORMATS: Mapping[str, AudioFormat] = MappingProxyType(_formats())
# Over HTTP only, as there.
FILE_FORMATS: Mapping[str, AudioFormat] = MappingProxyType(
    {**OUTPUT_FORMATS} | {f"wav_{rate}": AudioFormat(Codec.WAV, rate) for rate in _RATES}
)


def output_format(name: str, formats: Mapping[str, AudioFormat] = OUTPUT_FORMATS) -> AudioFormat:
    """Raises InvalidParameterError with the whole list."""
    if name not in formats:
        raise InvalidParameterError(f"output_format must be one of {', '.join(formats)}", param="output_format")
    return formats[name]


class _Part(BaseModel):
    """Unknown fields are ignored, as the service itself does."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Query(_Part):
    """Of either WebSocket. `inactivity_timeout` in seconds; `cfg_scale` is ours."""

    model_id: str | None = None
    output_format: str = DEFAULT_FORMAT
    inactivity_timeout: float = Field(20.0, gt=0, le=180)
    sync_alignment: bool = False
    auto_mode: bool = False
    apply_text_normalization: Normalization = "auto"
    seed: int | None = Field(None, ge=0, lt=2**63)
    cfg_scale: float | None = Field(None, ge=0.0, le=10.0)


class VoiceSettings(_Part):
    """Only `speed` has an effect."""

    speed: float | None = Field(None, ge=0.25, le=4.0)


class _Voiced(_Part):
    """What has voice settings."""

    voice_settings: VoiceSettings | None = None

    @property
    def speed(self) -> float:
        """1.0 for normal."""
        chosen = self.voice_settings.speed if self.voice_settings is not None else None
        return 1.0 if chosen is None else chosen


class Incoming(_Voiced):
    """Any message of a client. `context_id` is None on `stream-input`."""

    text: str | None = None
    context_id: str | None = Field(None, min_length=1, max_length=128)
    flush: bool | None = False
    close_context: bool | None = False
    close_socket: bool | None = False
    key: str | None = Field(None, validation_alias=AliasChoices("xi_api_key", "xi-api-key"))
    authorization: str | None = None

    @property
    def offered_key(self) -> str | None:
        """A key in a message, for clients that cannot set headers."""
        if self.key is not None or self.authorization is None:
            return self.key
        return self.authorization.removeprefix("Bearer ").strip()


class SpeechRequest(_Voiced):
    """The body of the HTTP routes; unknown fields have no effect."""

    model_config = ConfigDict(extra="allow")

    text: str
    model_id: str | None = None
    apply_text_normalization: Normalization | None = "auto"
    seed: int | None = Field(None, ge=0, lt=2**63)
    cfg_scale: float | None = Field(None, ge=0.0, le=10.0)


def parse_query(query: Mapping[str, str]) -> Query:
    """Raises an error that names the field and its limit."""
    try:
        return Query.model_validate(dict(query))
    except ValidationError as error:
        raise from_validation(error.errors()) from None


def parse_incoming(message: dict[str, Any]) -> Incoming:
    """Raises an error that names the field and its limit."""
    try:
        return Incoming.model_validate(message)
    except ValidationError as error:
        raise from_validation(error.errors()) from None


def audio(context_id: str | None, data: bytes, characters: list[Character]) -> dict[str, Any]:
    """`characters` are told as they were sent, under both names."""
    aligned = _alignment(characters)
    body = {"audio": base64.b64encode(data).decode() or None, "alignment": aligned, "normalizedAlignment": aligned}
    return body | _context(context_id)


def final(context_id: str | None) -> dict[str, Any]:
    return {"audio": None, "isFinal": True} | _context(context_id)


def error(context_id: str | None, reply: Reply) -> dict[str, Any]:
    body = {"message": reply.message, "error": reply.code, "code": _ERROR_CODE, "param": reply.param}
    return body | _context(context_id)


def timestamped(data: bytes, characters: list[Character]) -> dict[str, Any]:
    """One line of the HTTP stream with timestamps; seconds from the beginning."""
    aligned = {
        "characters": [one.text for one in characters],
        "character_start_times_seconds": [round(one.start_s, 4) for one in characters],
        "character_end_times_seconds": [round(one.start_s + one.duration_s, 4) for one in characters],
    }
    shown = aligned if characters else None
    return {"audio_base64": base64.b64encode(data).decode(), "alignment": shown, "normalized_alignment": shown}


def _context(context_id: str | None) -> dict[str, str]:
    return {} if context_id is None else {"contextId": context_id}


def _alignment(characters: list[Character]) -> dict[str, Any] | None:
    if not characters:
        return None
    # Ends are rounded, not durations: what clients add up does not drift.
    starts = [round(1000 * one.start_s) for one in characters]
    ends = [round(1000 * (one.start_s + one.duration_s)) for one in characters]
    return {
        "chars": [one.text for one in characters],
        "charStartTimesMs": starts,
        "charDurationsMs": [end - start for start, end in zip(starts, ends, strict=True)],
    }
