"""Reference recordings: bytes of any common audio file to mono samples."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
import soundfile

from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import BadAudioError, InputTooLongError


def decode_base64(value: str, max_bytes: int, param: str = "ref_audio") -> bytes:
    """A data URL or bare base64 as bytes. InputTooLongError before decoding, BadAudioError for bad base64."""
    body = value
    if value.startswith("data:"):
        head, comma, body = value.partition(",")
        if not comma or not head.endswith(";base64"):
            raise BadAudioError(f"{param} is a data URL without ';base64,'", param=param)
    if len(body) > (max_bytes + 2) // 3 * 4 + 4:
        raise InputTooLongError(f"{param} is larger than {max_bytes} bytes", param=param)
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadAudioError(f"{param} is not valid base64: {error}", param=param) from None
    if not data:
        raise BadAudioError(f"{param} is empty", param=param)
    return data


def decode_audio(data: bytes, max_s: float, param: str = "ref_audio") -> tuple[Float32, int]:
    """Any format libsndfile reads (wav, flac, ogg, mp3, ...), any rate, any channel count -> (mono fp32 `[N]`, Hz).

    Blocking: run it off the event loop. BadAudioError when it cannot be read or holds no finite sound,
    InputTooLongError beyond `max_s` seconds; decoding stops there, whatever length the header claims.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = int(file.samplerate)
            limit = int(max_s * rate)
            wave = file.read(limit + 1, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise BadAudioError(f"{param} cannot be decoded: {error}", param=param) from None
    if wave.shape[0] > limit:
        raise InputTooLongError(f"{param} is longer than {max_s:g} s", param=param)
    if wave.shape[0] == 0:
        raise BadAudioError(f"{param} holds no samples", param=param)
    pcm: Float32 = np.asarray(wave.mean(axis=1), dtype=np.float32)
    if not np.isfinite(pcm).all():
        raise BadAudioError(f"{param} holds samples that are not finite", param=param)
    return pcm, rate
