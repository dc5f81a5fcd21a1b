"""What every encoder does, and which one a caller asked for."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from sled_tts.server.audio.pcm import PcmEncoder
from sled_tts.server.audio.resample import ResamplingEncoder
from sled_tts.server.audio.wav import WavEncoder
from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import InvalidParameterError

Format = Literal["wav", "pcm"]
FORMATS: tuple[str, ...] = get_args(Format)
MIN_RATE, MAX_RATE = 8_000, 48_000
# OpenAI's `pcm` is 24 kHz whatever the model behind it.
PCM_DEFAULT_RATE = 24_000


class AudioEncoder(Protocol):
    """Mono fp32 samples in [-1, 1] in, bytes out as soon as they are final."""

    @property
    def media_type(self) -> str: ...

    def write(self, pcm: Float32) -> bytes:
        """Encode samples `[N]`; may return fewer or more bytes than they take."""

    def finish(self) -> bytes:
        """What was held back. Called once, after the last `write`."""


def make_encoder(kind: str, model_rate: int, sample_rate: int | None) -> AudioEncoder:
    """An encoder from `model_rate` Hz to `kind` at `sample_rate` Hz.

    None is 24000 for pcm and the model's own rate for wav. InvalidParameterError for an unknown format or rate.
    """
    if kind not in FORMATS:
        raise InvalidParameterError(
            f"response_format {kind!r} is not supported; use one of {', '.join(FORMATS)}", param="response_format"
        )
    if sample_rate is None:
        sample_rate = PCM_DEFAULT_RATE if kind == "pcm" else model_rate
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise InvalidParameterError(
            f"sample_rate must be {MIN_RATE}..{MAX_RATE}, got {sample_rate}", param="sample_rate"
        )
    encoder: AudioEncoder = WavEncoder(sample_rate) if kind == "wav" else PcmEncoder("s16le")
    return encoder if sample_rate == model_rate else ResamplingEncoder(encoder, model_rate, sample_rate)
