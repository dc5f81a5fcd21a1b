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
    WAV_F32LE = "wav_f32le"
    WAV_MULAW = "wav_mulaw"
    WAV_ALAW = "wav_alaw"
    MP3 = "mp3"
    OPUS = "opus"
    AAC = "aac"
    FLAC = "flac"


# What a wav is called that holds samples of a raw codec.
IN_WAV: dict[Codec, Codec] = {
    Codec.PCM_S16LE: Codec.WAV,
    Codec.PCM_F32LE: Codec.WAV_F32LE,
    Codec.MULAW: Codec.WAV_MULAW,
    Codec.ALAW: Codec.WAV_ALAW,
}

CONTENT_TYPES: dict[Codec, str] = {
    Codec.PCM_S16LE: "audio/pcm",
    Codec.PCM_F32LE: "audio/pcm",
    Codec.MULAW: "audio/basic",
    Codec.ALAW: "audio/x-alaw-basic",
    Codec.WAV: "audio/wav",
    Codec.WAV_F32LE: "audio/wav",
    Codec.WAV_MULAW: "audio/wav",
    Codec.WAV_ALAW: "audio/wav",
    Codec.MP3: "audio/mpeg",
    Codec.OPUS: "audio/ogg",
    Codec.AAC: "audio/aac",
    Codec.FLAC: "audio/flac",
}

_MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
# Codecs that are missing here take any rate.
_RATES: dict[Codec, tuple[int, ...]] = {
    Codec.MP3: _MPEG_RATES,
    Codec.AAC: _MPEG_RATES,
    Codec.OPUS: (8_000, 12_000, 16_000, 24_000, 48_000),
}
# kbit/s of layer III: MPEG-1 from 32 kHz on, MPEG-2 from 16 kHz on, MPEG-2.5 below.
_MP3_KBITS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KBITS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3_KBITS_25 = (8, 16, 24, 32, 40, 48, 56, 64)
_OPUS_BITRATES = (6_000, 256_000)
# An AAC frame of one channel holds at most 6144 bits for its 1024 samples.
_AAC_MIN_BITRATE, _AAC_BITS_A_SAMPLE = 8_000, 6


@dataclass(frozen=True)
class AudioFormat:
    """Mono audio at `rate` Hz; `bitrate` in bit/s for mp3, opus and aac, None for a usual one.

    InvalidParameterError names `sample_rate` or `bitrate`, and what the codec allows.
    """

    codec: Codec
    rate: int
    bitrate: int | None = None

    def __post_init__(self) -> None:
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise InvalidParameterError(
                f"sample_rate must be {MIN_RATE}..{MAX_RATE}, got {self.rate}", param="sample_rate"
            )
        if not allows_rate(self.codec, self.rate):
            allowed = ", ".join(map(str, _RATES[self.codec]))
            raise InvalidParameterError(
                f"sample_rate of {self.codec} must be one of {allowed}, got {self.rate}", param="sample_rate"
            )
        if self.bitrate is not None:
            _check_bitrate(self.codec, self.rate, self.bitrate)

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES[self.codec]

    @property
    def bits_a_second(self) -> int | None:
        """The bit rate to encode with; None for codecs without one."""
        wide = self.rate > 24_000
        match self.codec:
            case Codec.MP3:
                return self.bitrate or (128_000 if wide else 64_000)
            case Codec.OPUS:
                return self.bitrate or 48_000
            case Codec.AAC:
                return self.bitrate or min(96_000 if wide else 64_000, self.rate * _AAC_BITS_A_SAMPLE)
        return None


def allows_rate(codec: Codec, rate: int) -> bool:
    """Whether a codec exists at a rate within MIN_RATE..MAX_RATE."""
    return codec not in _RATES or rate in _RATES[codec]


def _check_bitrate(codec: Codec, rate: int, bitrate: int) -> None:
    match codec:
        case Codec.MP3:
            kbits = _MP3_KBITS_1 if rate >= 32_000 else _MP3_KBITS_2 if rate >= 16_000 else _MP3_KBITS_25
            if bitrate not in {1000 * k for k in kbits}:
                raise InvalidParameterError(
                    f"bitrate of mp3 at {rate} Hz must be one of {', '.join(map(str, kbits))} kbit/s, got {bitrate}",
                    param="bitrate",
                )
            return
        case Codec.OPUS:
            low, high = _OPUS_BITRATES
        case Codec.AAC:
            low, high = _AAC_MIN_BITRATE, rate * _AAC_BITS_A_SAMPLE
        case _:
            raise InvalidParameterError(f"{codec} has no bitrate", param="bitrate")
    if not low <= bitrate <= high:
        raise InvalidParameterError(
            f"bitrate of {codec} at {rate} Hz must be {low}..{high}, got {bitrate}", param="bitrate"
        )
