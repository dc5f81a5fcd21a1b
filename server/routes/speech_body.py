"""The body of `POST /v1/audio/speech`: OpenAI's fields, and ours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sled_tts.server.audio.encoder import MAX_RATE, MIN_RATE, Format
from sled_tts.server.service import ReferenceMode


class VoiceId(BaseModel):
    """OpenAI's second way to name a voice."""

    id: str


class SpeechBody(BaseModel):
    """Fields we do not know are ignored, as OpenAI's own server does."""

    model_config = ConfigDict(extra="ignore")

    input: str = Field(description="The text to speak.", examples=["Hello, this is a first sentence."])
    model: str | None = Field(None, description="A loaded model; OpenAI's names mean the preferred one.")
    voice: str | VoiceId | None = Field(None, description="A voice's id or name, `default`, or one of OpenAI's names.")
    response_format: Format = Field("wav", description="Streamed as it is generated.")
    sample_rate: int | None = Field(
        None, ge=MIN_RATE, le=MAX_RATE, description="Hz; 24000 for pcm and the model's own rate for wav by default."
    )
    speed: float = Field(1.0, description="Only 1.0.")
    stream_format: Literal["audio"] = Field("audio", description="Only `audio`.")
    instructions: str | None = Field(None, description="Accepted without effect; a warning header says so.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(None, description="Same text and seed, same audio.")
    cfg_scale: float = Field(2.0, ge=0.0, le=10.0, description="Classifier-free guidance.")
    max_seconds: float | None = Field(
        None, gt=0, le=600, description="Bound on the audio; by default it follows the text."
    )
    ref_audio: str | None = Field(None, description="A recording to speak like: base64 or a data URL, any rate.")
    ref_text: str | None = Field(None, min_length=1, description="What is said in `ref_audio`.")
    mode: ReferenceMode = Field(
        ReferenceMode.REFERENCE, description="`continuation` continues the first three seconds of `ref_audio`."
    )

    @field_validator("speed", mode="before")
    @classmethod
    def _only_normal_speed(cls, value: object) -> object:
        if value != 1.0:
            raise ValueError("only speed 1.0 is supported")
        return value

    @property
    def voice_name(self) -> str | None:
        return self.voice.id if isinstance(self.voice, VoiceId) else self.voice
