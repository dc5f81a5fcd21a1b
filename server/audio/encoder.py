"""What every encoder does, and which one a caller asked for."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from sled_tts.server.audio.formats import MAX_RATE, MIN_RATE, AudioFormat, Codec
from sled_tts.server.audio.g711 import G711Encoder
from sled_tts.server.audio.pcm import PcmEncoder
from sled_tts.server.audio.resample import ResamplingEncoder
from sled_tts.server.audio.wav import WavEncoder
from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import InvalidParameterError, UnsupportedError

__all__ = ["FORMATS", "MAX_RATE", "MIN_RATE", "AudioEncoder", "Format", "make_encoder", "rest_format"]

Format = Literal["wav", "pcm"]
FORMATS: tuple[str, ...] = get_args(Format)
# OpenAI's `pcm` is 24 kHz whatever the model behind it.
_PCM_DEFAULT_RATE = 24_000


class AudioEncoder(Protocol):
    """Mono fp32 samples in [-1, 1] in, bytes out as soon as they are final."""

    @property
    def media_type(self) -> str: ...

    def encode(self, pcm: Float32) -> bytes:
        """Encode samples `[N]`; may return fewer or more bytes than they take."""

    def finish(self) -> bytes:
        """What was held back. Called once, after the last `encode`."""


def make_encoder(format: AudioFormat, source_rate: int, *, speed: float = 1.0) -> AudioEncoder:  # noqa: A002
    """An encoder of samples at `source_rate` Hz. UnsupportedError for what this server cannot encode."""
    if speed != 1.0:
        raise UnsupportedError("only speed 1.0 is supported", param="speed")
    encoder = _encoder(format)
    return encoder if format.rate == source_rate else ResamplingEncoder(encoder, source_rate, format.rate)


def _encoder(wanted: AudioFormat) -> AudioEncoder:
    match wanted.codec:
        case Codec.WAV:
            return WavEncoder(wanted.rate)
        case Codec.PCM_S16LE:
            return PcmEncoder("s16le")
        case Codec.PCM_F32LE:
            return PcmEncoder("f32le")
        case Codec.MULAW:
            return G711Encoder("mulaw")
        case Codec.ALAW:
            return G711Encoder("alaw")
    raise UnsupportedError(f"{wanted.codec} is not supported", param="response_format")


def rest_format(kind: str, model_rate: int, sample_rate: int | None) -> AudioFormat:
    """`response_format` of the REST route; None is 24000 Hz for pcm and the model's own rate for wav.

    InvalidParameterError for an unknown format or rate.
    """
    if kind not in FORMATS:
        raise InvalidParameterError(
            f"response_format {kind!r} is not supported; use one of {', '.join(FORMATS)}", param="response_format"
        )
    if sample_rate is None:
        sample_rate = _PCM_DEFAULT_RATE if kind == "pcm" else model_rate
    return AudioFormat(Codec.WAV if kind == "wav" else Codec.PCM_S16LE, sample_rate)
