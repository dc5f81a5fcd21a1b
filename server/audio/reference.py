"""Reference recordings: bytes of any common audio file to mono samples."""

from __future__ import annotations

import base64
import binascii
import io

import av
import numpy as np

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
    """Any container and codec FFmpeg reads, any rate, any channel count -> (mono fp32 `[N]`, its rate in Hz).

    Blocking: run it off the event loop. BadAudioError when it cannot be read or holds no sound that is finite,
    InputTooLongError beyond `max_s` seconds (decoding stops there).
    """
    pieces: list[Float32] = []
    samples = 0
    try:
        with av.open(io.BytesIO(data), mode="r", metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise BadAudioError(f"{param} holds no audio stream", param=param)
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            to_float = av.AudioResampler(format="fltp")
            for frame in container.decode(stream):
                for converted in to_float.resample(frame):
                    pieces.append(np.mean(converted.to_ndarray(), axis=0, dtype=np.float32))
                    samples += pieces[-1].size
                if samples > max_s * rate:
                    raise InputTooLongError(f"{param} is longer than {max_s:g} s", param=param)
    except av.FFmpegError as error:
        raise BadAudioError(f"{param} cannot be decoded: {error.strerror or error}", param=param) from None
    pcm = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if pcm.size == 0:
        raise BadAudioError(f"{param} holds no samples", param=param)
    if not np.isfinite(pcm).all():
        raise BadAudioError(f"{param} holds samples that are not finite", param=param)
    return pcm, rate
