"""From an upload to a reference: decoded, trimmed, levelled, and believed only if its transcript can be true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sled_tts.server.audio.reference import decode_audio
from sled_tts.server.audio.speech_level import level_speech
from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import BadAudioError, InputTooLongError, InvalidParameterError
from sled_tts.server.service import Reference, ReferenceMode


@dataclass(frozen=True)
class ReferenceRules:
    """What is accepted. Seconds of speech after trimming; characters a second between very slow and very fast."""

    max_bytes: int = 10 * 2**20
    max_s: float = 20.0
    min_s: float = 1.0
    max_text_chars: int = 4096
    chars_per_s: tuple[float, float] = (4.0, 30.0)


class Transcriber(Protocol):
    """Finds out what is said in a recording."""

    def transcribe(self, pcm: Float32, rate: int) -> str:
        """Blocking. Empty when nothing was recognised."""


def read_reference(
    data: bytes,
    text: str | None,
    rules: ReferenceRules,
    transcriber: Transcriber | None = None,
    *,
    mode: ReferenceMode = ReferenceMode.REFERENCE,
    audio_param: str = "ref_audio",
    text_param: str = "ref_text",
) -> Reference:
    """Blocking. Raises BadAudioError, InputTooLongError or InvalidParameterError with the reason."""
    if len(data) > rules.max_bytes:
        raise InputTooLongError(f"{audio_param} is larger than {rules.max_bytes} bytes", param=audio_param)
    said = (text or "").strip()
    if not said and transcriber is None:
        raise InvalidParameterError(f"{audio_param} needs {text_param}: what is said in it", param=text_param)
    if len(said) > rules.max_text_chars:
        raise InputTooLongError(f"{text_param} has more than {rules.max_text_chars} characters", param=text_param)
    pcm, rate = decode_audio(data, rules.max_s, audio_param)
    pcm = level_speech(pcm, rate, audio_param).pcm
    seconds = len(pcm) / rate
    if seconds < rules.min_s:
        raise BadAudioError(
            f"{audio_param} is too short: {seconds:.2f} s of sound, at least {rules.min_s:g} s are needed",
            param=audio_param,
        )
    if not said and transcriber is not None:
        said = transcriber.transcribe(pcm, rate)
        if not said:
            raise InvalidParameterError(
                f"no speech was recognised in {audio_param}; send {text_param}", param=text_param
            )
    _check_pace(said, seconds, rules, audio_param, text_param)
    return Reference(pcm, rate, said, mode)


def _check_pace(text: str, seconds: float, rules: ReferenceRules, audio_param: str, text_param: str) -> None:
    pace = sum(char.isalnum() for char in text) / seconds
    slowest, fastest = rules.chars_per_s
    if not slowest <= pace <= fastest:
        raise InvalidParameterError(
            f"{text_param} does not fit {audio_param}: {pace:.1f} letters a second over {seconds:.1f} s, "
            f"speech has {slowest:g} to {fastest:g}",
            param=text_param,
        )
