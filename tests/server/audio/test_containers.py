"""mp3, opus, aac and flac, decoded again and compared with what went in."""

from __future__ import annotations

import numpy as np
import pytest

from sled_tts.server.audio.encoder import encode, finish, make_encoder, rest_format
from sled_tts.server.audio.formats import AudioFormat, Codec
from sled_tts.server.errors import InvalidParameterError
from tests.server.audio.decoding import encoded, hear, lag, snr_db, sweep

# Samples by which every decoder is late in a stream without a length: LAME's 528 + 576 + 1, and one block of AAC.
_LATE = {Codec.MP3: 1105, Codec.AAC: 1024, Codec.OPUS: 0, Codec.FLAC: 0}
_SNR_DB = {Codec.MP3: 22.0, Codec.AAC: 25.0, Codec.OPUS: 30.0, Codec.FLAC: 80.0}
_CASES = [
    (codec, rate)
    for codec in (Codec.MP3, Codec.AAC, Codec.OPUS, Codec.FLAC)
    for rate in (8_000, 16_000, 24_000, 48_000)
]


@pytest.mark.parametrize(("codec", "rate"), _CASES)
def test_what_is_heard_is_what_was_spoken(codec: Codec, rate: int) -> None:
    sent = sweep(rate, 0.997)
    heard = hear(encoded(make_encoder(AudioFormat(codec, rate), rate), sent, rate // 50))
    pcm = heard.at(rate)
    late = _LATE[codec]
    assert lag(pcm, sent, 1200) == late
    assert snr_db(pcm[late:], sent) > _SNR_DB[codec]
    # Nothing is missing at the end: the last samples are there, and as good as the rest.
    assert pcm.size >= sent.size + late
    assert snr_db(pcm[late + sent.size - rate // 20 :], sent[-rate // 20 :]) > _SNR_DB[codec] - 12
    if late == 0:
        assert pcm.size == sent.size
    # No click: the signal never moves faster than the tone does.
    assert np.abs(np.diff(pcm[late : late + sent.size])).max() < 1.25 * np.abs(np.diff(sent)).max() + 0.01
    if codec is not Codec.AAC:  # ADTS has no place for tags
        assert "Synthetic speech" in heard.tags["comment"]


@pytest.mark.parametrize(("codec", "rate"), [*_CASES, (Codec.MP3, 44_100), (Codec.AAC, 22_050)])
def test_cuts_do_not_change_a_byte(codec: Codec, rate: int) -> None:
    sent = sweep(16_000, 0.5)
    wanted = AudioFormat(codec, rate)
    whole = encoded(make_encoder(wanted, 16_000), sent, sent.size)
    assert encoded(make_encoder(wanted, 16_000), sent, 97) == whole
    assert encoded(make_encoder(wanted, 16_000), sent, 2_240) == whole


@pytest.mark.parametrize(("codec", "frames", "size"), [
    (Codec.MP3, 3, 576), (Codec.AAC, 3, 1024), (Codec.OPUS, 2, 480), (Codec.FLAC, 2, 576), (Codec.WAV, 1, 1),
])  # fmt: skip
def test_the_first_sound_leaves_soon_and_the_rest_follows(codec: Codec, frames: int, size: int) -> None:
    """No more than so many codec frames of 24 kHz speech are ever held back."""
    sent, encoder = sweep(24_000, 2.0), make_encoder(AudioFormat(codec, 24_000), 24_000)
    encoder.encode(np.zeros(0, np.float32))  # the header
    silent = 0
    for begin in range(0, sent.size, size):
        silent = 0 if encoder.encode(sent[begin : begin + size]) else silent + 1
        assert silent <= frames


@pytest.mark.parametrize("codec", [Codec.MP3, Codec.AAC, Codec.OPUS, Codec.FLAC, Codec.WAV])
@pytest.mark.parametrize("samples", [0, 1, 100])
def test_hardly_any_speech_is_still_a_file(codec: Codec, samples: int) -> None:
    data = encoded(make_encoder(AudioFormat(codec, 24_000), 24_000), sweep(24_000, 1.0)[:samples], 10)
    if samples:
        assert hear(data).pcm.size >= samples


async def test_costly_encoders_work_off_the_loop() -> None:
    sent, encoder = sweep(24_000, 0.5), make_encoder(AudioFormat(Codec.MP3, 24_000), 24_000)
    assert encoder.heavy
    assert not make_encoder(AudioFormat(Codec.WAV, 48_000), 24_000).heavy
    streamed = b"".join([await encode(encoder, part) for part in np.array_split(sent, 9)]) + await finish(encoder)
    assert streamed == encoded(make_encoder(AudioFormat(Codec.MP3, 24_000), 24_000), sent, sent.size)


@pytest.mark.parametrize(("codec", "rate", "bitrate", "param"), [
    (Codec.OPUS, 44_100, None, "sample_rate"), (Codec.MP3, 9_000, None, "sample_rate"),
    (Codec.AAC, 47_999, None, "sample_rate"), (Codec.WAV, 7_999, None, "sample_rate"),
    (Codec.FLAC, 48_001, None, "sample_rate"), (Codec.MP3, 44_100, 24_000, "bitrate"),
    (Codec.MP3, 22_050, 192_000, "bitrate"), (Codec.MP3, 8_000, 128_000, "bitrate"),
    (Codec.OPUS, 48_000, 300_000, "bitrate"), (Codec.AAC, 8_000, 64_000, "bitrate"),
    (Codec.WAV, 8_000, 64_000, "bitrate"),
])  # fmt: skip
def test_what_a_codec_does_not_allow(codec: Codec, rate: int, bitrate: int | None, param: str) -> None:
    with pytest.raises(InvalidParameterError) as error:
        AudioFormat(codec, rate, bitrate)
    assert error.value.param == param


def test_bit_rates_are_kept() -> None:
    sent = sweep(44_100, 4.0)
    sizes = {
        bitrate: len(encoded(make_encoder(AudioFormat(Codec.MP3, 44_100, bitrate), 44_100), sent, 4_410))
        for bitrate in (32_000, 64_000, 128_000)
    }
    for bitrate, size in sizes.items():
        assert size * 8 / 4.0 == pytest.approx(bitrate, rel=0.05)


@pytest.mark.parametrize(("kind", "model_rate", "rate"), [
    ("pcm", 16_000, 24_000), ("wav", 16_000, 16_000), ("opus", 22_050, 24_000), ("mp3", 22_050, 22_050),
    ("flac", 4_000, 24_000),
])  # fmt: skip
def test_rates_without_being_asked(kind: str, model_rate: int, rate: int) -> None:
    assert rest_format(kind, model_rate, None).rate == rate
