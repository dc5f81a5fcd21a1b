"""The body of `POST /v1/audio/speech`: OpenAI's fields, and ours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sled_tts.server.audio.encoder import MAX_RATE, MIN_RATE, Format
from sled_tts.server.audio.tempo import MAX_SPEED, MIN_SPEED
from sled_tts.server.service import ReferenceMode


class VoiceId(BaseModel):
    """OpenAI's second way to name a voice."""

    id: str


class SpeechBody(BaseModel):
    """Fields we do not know have no effect, and `X-Sled-Warning` names them."""

    model_config = ConfigDict(extra="allow")

    input: str = Field(description="The text to speak.", examples=["Hello, this is a first sentence."])
    model: str | None = Field(None, description="A loaded model; OpenAI's names mean the preferred one.")
    voice: str | VoiceId | None = Field(None, description="A voice's id or name, `default`, or one of OpenAI's names.")
    response_format: Format = Field("mp3", description="Streamed as it is generated.")
    sample_rate: int | None = Field(
        None,
        ge=MIN_RATE,
        le=MAX_RATE,
        description="Hz; by default 24000 for pcm, else the model's own rate if the codec has it, else 24000.",
    )
    speed: float = Field(1.0, ge=MIN_SPEED, le=MAX_SPEED, description="Times as fast, at the same pitch.")
    stream_format: Literal["audio", "sse"] = Field(
        "audio", description="`sse`: server-sent events that carry the audio as base64."
    )
    instructions: str | None = Field(None, description="Accepted without effect; a warning header says so.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(None, description="Same text and seed, same audio.")
    cfg_scale: float | None = Field(
        None, ge=0.0, le=10.0, description="Classifier-free guidance; by default the model's."
    )
    max_seconds: float | None = Field(
        None, gt=0, le=600, description="Bound on the audio; by default it follows the text."
    )
    normalize: bool = Field(True, description="Put numbers, marks and abbreviations into words; see docs/text.md.")
    ref_audio: str | None = Field(None, description="A recording to speak like: base64 or a data URL, any rate.")
    ref_text: str | None = Field(None, min_length=1, description="What is said in `ref_audio`.")
    mode: ReferenceMode = Field(
        ReferenceMode.REFERENCE, description="`continuation` continues the first three seconds of `ref_audio`."
    )

    @property
    def voice_name(self) -> str | None:
        return self.voice.id if isinstance(self.voice, VoiceId) else self.voice
