"""What Deepgram's clients put into the query string, for the WebSocket and for REST."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sled_tts.server.audio.formats import IN_WAV, AudioFormat, Codec
from sled_tts.server.errors import InvalidParameterError
from sled_tts.server.routes.replies import from_validation
from sled_tts.server.routes.state import AppState
from sled_tts.server.service import LoadedModel, UtteranceOptions

# Encoding: codec without a container, default rate (Hz) as the service documents it, containers.
_ENCODINGS: dict[str, tuple[Codec, int, tuple[str, ...]]] = {
    "linear16": (Codec.PCM_S16LE, 24_000, ("wav", "none")),
    "mulaw": (Codec.MULAW, 8_000, ("none", "wav")),
    "alaw": (Codec.ALAW, 8_000, ("none", "wav")),
    "mp3": (Codec.MP3, 22_050, ("none",)),
    "opus": (Codec.OPUS, 48_000, ("ogg",)),
    "flac": (Codec.FLAC, 48_000, ("none",)),
    "aac": (Codec.AAC, 22_050, ("none",)),
}
STREAMED = ("linear16", "mulaw", "alaw")
# Their voices' names, one for each of their models.
_STOCK_VOICES = "aura-"


class SpeakQuery(BaseModel):
    """`model` names a voice. `seed` and `cfg_scale` are ours; unknown parameters have no effect."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str | None = None
    encoding: str | None = None
    container: str | None = None
    sample_rate: int | None = Field(None, ge=8_000, le=48_000)
    bit_rate: int | None = Field(None, ge=4_000, le=650_000)
    speed: float = Field(1.0, ge=0.25, le=4.0)
    callback: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    cfg_scale: float | None = Field(None, ge=0.0, le=10.0)

    @property
    def stock_voice(self) -> bool:
        """Whether one of Deepgram's own voices was asked for; the default one speaks in its place."""
        return self.model is not None and self.model.startswith(_STOCK_VOICES)

    def audio(self, *, streamed: bool) -> AudioFormat:
        """What is sent. Raises InvalidParameterError."""
        encoding = self.encoding or ("linear16" if streamed or self.container in ("wav", "none") else "mp3")
        known = STREAMED if streamed else tuple(_ENCODINGS)
        if encoding not in known:
            raise InvalidParameterError(f"encoding must be one of {', '.join(known)}", param="encoding")
        codec, rate, containers = _ENCODINGS[encoding]
        container = "none" if streamed else self.container or containers[0]
        if not streamed and container not in containers:
            raise InvalidParameterError(
                f"container of {encoding} must be one of {', '.join(containers)}", param="container"
            )
        if container == "wav":
            codec = IN_WAV[codec]
        bitrate = self.bit_rate if codec in (Codec.MP3, Codec.OPUS, Codec.AAC) else None
        return AudioFormat(codec, self.sample_rate or rate, bitrate)

    def options(self, state: AppState, model: LoadedModel) -> UtteranceOptions:
        """Raises VoiceNotFoundError."""
        voice = None if self.stock_voice else state.voice_or_default(self.model)
        seed = state.seed(self.seed)
        return UtteranceOptions(seed, self.cfg_scale, model=model.name, voice=voice)


def parse_query(query: Mapping[str, str]) -> SpeakQuery:
    """Raises an error that names the parameter and its limit."""
    try:
        return SpeakQuery.model_validate(dict(query))
    except ValidationError as error:
        raise from_validation(error.errors()) from None
