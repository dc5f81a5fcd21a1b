"""Encoders: exact bytes, any chunking, one header."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sled_tts.server.audio.encoder import AudioEncoder, make_encoder, rest_format
from sled_tts.server.audio.formats import AudioFormat, Codec
from sled_tts.server.audio.pcm import PcmEncoder
from sled_tts.server.audio.resample import Resampler
from sled_tts.server.audio.wav import WavEncoder, wav_header
from sled_tts.server.errors import InvalidParameterError


def _tone(samples: int, rate: int = 16_000) -> npt.NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate)).astype(np.float32)


def _encode(encoder: AudioEncoder, pcm: npt.NDArray[np.float32], cuts: list[int]) -> bytes:
    edges = [0, *sorted(min(cut, pcm.size) for cut in cuts), pcm.size]
    return b"".join(encoder.encode(pcm[a:b]) for a, b in pairwise(edges)) + encoder.finish()


def test_s16_values_round_and_clip() -> None:
    pcm = np.array([0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 1 / 32767], np.float32)
    samples = np.frombuffer(PcmEncoder("s16le").encode(pcm), "<i2")
    assert samples.tolist() == [0, 32767, -32767, 32767, -32767, 16384, 1]


def test_f32_is_bit_exact() -> None:
    assert np.array_equal(np.frombuffer(PcmEncoder("f32le").encode(_tone(100)), "<f4"), _tone(100))


def test_wav_files_say_that_they_are_synthetic() -> None:
    pcm = PcmEncoder("s16le").encode(_tone(100))
    data = wav_header(16_000, data_bytes=len(pcm)) + pcm
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        assert "Synthetic speech" in file.comment
        assert np.array_equal(file.read(dtype="int16"), np.frombuffer(pcm, "<i2"))


def test_wav_has_one_header_even_when_nothing_was_said() -> None:
    assert WavEncoder(16_000).finish() == wav_header(16_000)
    encoder = WavEncoder(16_000)
    first, second = encoder.encode(_tone(10)), encoder.encode(_tone(10))
    assert first[:-20] == wav_header(16_000)
    assert len(second) == 20
    assert encoder.finish() == b""


@given(cuts=st.lists(st.integers(0, 4000), max_size=12), rate=st.sampled_from([8_000, 24_000, 44_100, 48_000]))
def test_resampling_does_not_depend_on_the_cuts(cuts: list[int], rate: int) -> None:
    whole = np.frombuffer(_encode(make_encoder(rest_format("pcm", 16_000, rate), 16_000), _tone(4000), []), "<i2")
    cut = np.frombuffer(_encode(make_encoder(rest_format("pcm", 16_000, rate), 16_000), _tone(4000), cuts), "<i2")
    assert whole.size == pytest.approx(4000 * rate / 16_000, abs=2)
    assert np.array_equal(whole, cut)


def test_resampling_keeps_the_tone() -> None:
    heard = np.frombuffer(
        _encode(make_encoder(rest_format("pcm", 16_000, None), 16_000), _tone(16_000), [3, 500, 501]), "<i2"
    )
    expected = _tone(24_000, 24_000) * 32767
    assert np.abs(heard[500:-500] - expected[500:-500]).max() < 40


@pytest.mark.parametrize(("kind", "rate", "param"), [("mp9", None, "response_format"), ("wav", 10, "sample_rate")])
def test_unknown_formats_and_rates(kind: str, rate: int | None, param: str) -> None:
    with pytest.raises(InvalidParameterError) as error:
        rest_format(kind, 16_000, rate)
    assert error.value.param == param


# Steps of G.711: (sample, mu-law code, A-law code), after tables 1 and 2 of the recommendation.
_CODES = [
    (0, 0xFF, 0xD5), (-1, 0x7E, 0x55), (32_767, 0x80, 0xAA), (-32_767, 0x00, 0x2A),
    (1000, 0xCE, 0xFA), (-1000, 0x4E, 0x7A), (8, 0xFE, 0xD5), (-9, 0x7D, 0x55),
]  # fmt: skip


@pytest.mark.parametrize(("sample", "mu", "a"), _CODES)
def test_telephone_codes(sample: int, mu: int, a: int) -> None:
    pcm = np.array([sample / 32_767], np.float32)
    assert make_encoder(AudioFormat(Codec.MULAW, 8_000), 8_000).encode(pcm) == bytes([mu])
    assert make_encoder(AudioFormat(Codec.ALAW, 8_000), 8_000).encode(pcm) == bytes([a])


def test_telephone_audio_is_one_byte_a_sample_at_any_rate() -> None:
    encoder = make_encoder(AudioFormat(Codec.MULAW, 8_000), 16_000)
    heard = b"".join(encoder.encode(part) for part in np.array_split(_tone(16_000), 7)) + encoder.finish()
    assert len(heard) == 8_000


@pytest.mark.parametrize(("source", "target"), [
    (24_000, 8_000), (16_000, 8_000), (24_000, 16_000), (16_000, 24_000), (24_000, 22_050), (24_000, 44_100),
    (16_000, 48_000), (16_000, 11_025),
])  # fmt: skip
def test_resampling_is_prompt_and_true(source: int, target: int) -> None:
    """A few milliseconds are held back, tones keep their place and level, and nothing folds back."""
    resampler, sent, parts = Resampler(source, target), _tone(source // 2, source), []
    for begin in range(0, sent.size, source // 200):
        parts.append(resampler.write(sent[begin : begin + source // 200]))
        held = min(begin + source // 200, sent.size) / source - sum(part.size for part in parts) / target
        assert held <= 32 / min(source, target) + 0.001
    heard = np.concatenate([*parts, resampler.finish()])
    assert heard.size == -(-sent.size * target // source)
    assert np.abs(heard - _tone(heard.size, target))[target // 50 : -target // 50].max() < 2e-4
    if source > target:
        high = np.sin(2 * np.pi * 0.49 * source * np.arange(source // 4) / source).astype(np.float32)
        folded = Resampler(source, target).write(high)
        assert np.abs(folded[target // 50 :]).max() < 1e-3


def test_odd_rates_are_resampled_too() -> None:
    resampler = Resampler(16_000, 47_999)
    heard = np.concatenate([resampler.write(_tone(16_000)), resampler.finish()])
    assert heard.size == pytest.approx(47_999, abs=2)
    assert np.abs(heard - _tone(heard.size, 47_999))[1_000:-1_000].max() < 2e-3
