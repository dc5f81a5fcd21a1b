"""Reference recordings: bytes of any common audio file to mono samples."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator

import av
import numpy as np
import numpy.typing as npt
import soundfile

from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import BadAudioError, InputTooLongError

MIN_RATE, MAX_RATE, MAX_CHANNELS = 8_000, 192_000, 8
# Channels that nearly cancel each other (a microphone wired in opposite phase) are not mixed.
_CANCELLED = 0.1
# What FFmpeg may take the bytes for. Playlists and other formats that make it open further files are not among them.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,mp3,aac,flac,wav,aiff,au,amr,asf,caf,w64"
_CLOSED = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}


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
    """Any common format, rate and channel count -> (mono fp32 `[N]`, Hz).

    libsndfile reads wav, flac, ogg, mp3 and the like; what it does not know (m4a, aac, webm, ...) goes to FFmpeg.
    Blocking: run it off the event loop. BadAudioError when it cannot be read or holds no finite sound,
    InputTooLongError beyond `max_s` seconds: by the header before anything is decoded, and again while decoding,
    whatever length the header claims.
    """
    if not data:
        raise BadAudioError(f"{param} is empty", param=param)
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except (soundfile.SoundFileError, RuntimeError):
        wave, rate = _with_ffmpeg(data, max_s, param)
    else:
        with file:
            wave, rate = _with_sndfile(file, max_s, param)
    if wave.shape[0] == 0:
        raise BadAudioError(f"{param} holds no samples", param=param)
    if not np.isfinite(wave).all():
        raise BadAudioError(f"{param} holds samples that are not finite", param=param)
    return _mono(wave), rate


def _with_sndfile(file: soundfile.SoundFile, max_s: float, param: str) -> tuple[Float32, int]:
    rate = int(file.samplerate)
    _check_layout(rate, int(file.channels), param)
    limit = int(max_s * rate)
    if file.frames > limit:
        raise _too_long(max_s, param)
    try:
        wave: Float32 = file.read(limit + 1, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise BadAudioError(f"{param} cannot be decoded: {error}", param=param) from None
    if wave.shape[0] > limit:
        raise _too_long(max_s, param)
    return wave, rate


def _with_ffmpeg(data: bytes, max_s: float, param: str) -> tuple[Float32, int]:
    try:
        with av.open(io.BytesIO(data), mode="r", options=_CLOSED) as container:
            stream = next(iter(container.streams.audio), None)
            if stream is None:
                raise BadAudioError(f"{param} holds no audio", param=param)
            rate = int(stream.rate or 0)
            _check_layout(rate, int(stream.channels), param)
            claimed = container.duration
            if claimed is not None and claimed / av.time_base > max_s + 0.5:
                raise _too_long(max_s, param)
            blocks: list[Float32] = []
            total = 0
            for block in _blocks(container.decode(stream), param):
                blocks.append(block)
                total += len(block)
                # Encoders add up to a few thousand samples of padding.
                if total > int(max_s * rate) + 4096:
                    raise _too_long(max_s, param)
    except (av.FFmpegError, ValueError, UnicodeDecodeError):
        raise BadAudioError(f"{param} is not an audio file of a known format", param=param) from None
    return (np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)), rate


def _blocks(frames: Iterator[av.AudioFrame], param: str) -> Iterator[Float32]:
    """Decoded frames as fp32 `[N, channels]`."""
    planar = None
    for frame in frames:
        if planar is None:
            planar = av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
        for ready in planar.resample(frame):
            yield np.asarray(ready.to_ndarray().T, dtype=np.float32)
    if planar is None:
        return
    for ready in planar.resample(None):
        yield np.asarray(ready.to_ndarray().T, dtype=np.float32)


def _mono(wave: npt.NDArray[np.float32]) -> Float32:
    mixed: Float32 = np.asarray(wave.mean(axis=1), dtype=np.float32)
    power = np.square(wave).mean(axis=0)
    loudest = int(power.argmax())
    if float(np.square(mixed).mean()) < _CANCELLED**2 * float(power[loudest]):
        return np.ascontiguousarray(wave[:, loudest])
    return mixed


def _check_layout(rate: int, channels: int, param: str) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadAudioError(f"{param} has {rate} samples a second; {MIN_RATE} to {MAX_RATE} are read", param=param)
    if channels > MAX_CHANNELS:
        raise BadAudioError(f"{param} has {channels} channels; at most {MAX_CHANNELS} are read", param=param)


def _too_long(max_s: float, param: str) -> InputTooLongError:
    return InputTooLongError(f"{param} is longer than {max_s:g} s", param=param)
