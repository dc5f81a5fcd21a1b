"""Which audio a caller can ask for: a codec, a rate, a bit rate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sled_tts.server.errors import InvalidParameterError

MIN_RATE, MAX_RATE = 8_000, 48_000


class Codec(StrEnum):
    """Raw samples, G.711 telephone codes, and files or streams with a container of their own."""

    PCM_S16LE = "pcm_s16le"
    PCM_F32LE = "pcm_f32le"
    MULAW = "mulaw"
    ALAW = "alaw"
    WAV = "wav"
    MP3 = "mp3"
    OPUS = "opus"
    AAC = "aac"
    FLAC = "flac"


_CONTENT_TYPES: dict[Codec, str] = {
    Codec.PCM_S16LE: "audio/pcm",
    Codec.PCM_F32LE: "audio/pcm",
    Codec.MULAW: "audio/basic",
    Codec.ALAW: "audio/x-alaw-basic",
    Codec.WAV: "audio/wav",
    Codec.MP3: "audio/mpeg",
    Codec.OPUS: "audio/ogg",
    Codec.AAC: "audio/aac",
    Codec.FLAC: "audio/flac",
}


@dataclass(frozen=True)
class AudioFormat:
    """Mono audio at `rate` Hz; `bitrate` in bit/s for the codecs that have one. Raises InvalidParameterError."""

    codec: Codec
    rate: int
    bitrate: int | None = None

    def __post_init__(self) -> None:
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise InvalidParameterError(
                f"sample_rate must be {MIN_RATE}..{MAX_RATE}, got {self.rate}", param="sample_rate"
            )

    @property
    def content_type(self) -> str:
        return _CONTENT_TYPES[self.codec]
