"""What every encoder does, and which one a caller asked for."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol, get_args

from sled_tts.server.audio.container import ContainerEncoder
from sled_tts.server.audio.formats import IN_WAV, MAX_RATE, MIN_RATE, AudioFormat, Codec, allows_rate
from sled_tts.server.audio.raw import raw_encoder
from sled_tts.server.audio.resample import ResamplingEncoder
from sled_tts.server.audio.tempo import TempoEncoder, check_speed
from sled_tts.server.audio.wav import WavEncoder
from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import InvalidParameterError

__all__ = [
    "FORMATS", "MAX_RATE", "MIN_RATE", "AudioEncoder", "Format", "encode", "finish", "make_encoder", "rest_format",
]  # fmt: skip

Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
FORMATS: tuple[str, ...] = get_args(Format)
# OpenAI's `pcm` is 24 kHz whatever the model behind it.
_PCM_DEFAULT_RATE = 24_000
_HELD_BY = {wav: raw for raw, wav in IN_WAV.items()}


class AudioEncoder(Protocol):
    """Mono fp32 samples in [-1, 1] in, bytes out as soon as they are final."""

    @property
    def media_type(self) -> str: ...

    @property
    def heavy(self) -> bool:
        """Whether a call takes long enough to be kept off an event loop: see `encode` and `finish` below."""

    def encode(self, pcm: Float32) -> bytes:
        """Encode samples `[N]`; may return fewer or more bytes than they take."""

    def finish(self) -> bytes:
        """What was held back. Called once, after the last `encode`."""


def make_encoder(format: AudioFormat, source_rate: int, *, speed: float = 1.0) -> AudioEncoder:  # noqa: A002
    """An encoder of samples at `source_rate` Hz, heard `speed` times as fast at the same pitch.

    InvalidParameterError for a speed outside its range.
    """
    check_speed(speed)
    encoder = _encoder(format)
    if format.rate != source_rate:
        encoder = ResamplingEncoder(encoder, source_rate, format.rate)
    return encoder if speed == 1.0 else TempoEncoder(encoder, speed, source_rate)


async def encode(encoder: AudioEncoder, pcm: Float32) -> bytes:
    """`encoder.encode`, in another thread where that pays."""
    return await asyncio.to_thread(encoder.encode, pcm) if encoder.heavy else encoder.encode(pcm)


async def finish(encoder: AudioEncoder) -> bytes:
    """`encoder.finish`, in another thread where that pays."""
    return await asyncio.to_thread(encoder.finish) if encoder.heavy else encoder.finish()


def _encoder(wanted: AudioFormat) -> AudioEncoder:
    if wanted.codec in _HELD_BY:
        return WavEncoder(wanted.rate, _HELD_BY[wanted.codec])
    return raw_encoder(wanted.codec) if wanted.codec in IN_WAV else ContainerEncoder(wanted)


def rest_format(kind: str, model_rate: int, sample_rate: int | None) -> AudioFormat:
    """`response_format` of the REST route; without a rate 24000 Hz for pcm, or else the model's own if it can be.

    InvalidParameterError for an unknown format or rate.
    """
    if kind not in FORMATS:
        raise InvalidParameterError(
            f"response_format {kind!r} is not supported; use one of {', '.join(FORMATS)}", param="response_format"
        )
    codec = Codec.PCM_S16LE if kind == "pcm" else Codec(kind)
    if sample_rate is None:
        own = codec is not Codec.PCM_S16LE and MIN_RATE <= model_rate <= MAX_RATE and allows_rate(codec, model_rate)
        sample_rate = model_rate if own else _PCM_DEFAULT_RATE
    return AudioFormat(codec, sample_rate)
