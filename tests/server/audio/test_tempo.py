"""Faster and slower speech: how long it is, at which pitch, and that it is one piece."""

from __future__ import annotations

import numpy as np
import pytest

from sled_tts.server.audio.encoder import make_encoder
from sled_tts.server.audio.formats import AudioFormat, Codec
from sled_tts.server.audio.pcm import PcmEncoder
from sled_tts.server.audio.tempo import Tempo
from sled_tts.server.errors import InvalidParameterError
from tests.server.audio.decoding import Samples, hear

RATE = 24_000
SPEEDS = [0.25, 0.4, 0.5, 0.8, 1.1, 1.5, 2.0, 3.0, 4.0]


def _tone(seconds: float) -> Samples:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(RATE * seconds)) / RATE)).astype(np.float32)


def _run(speed: float, pcm: Samples, step: int) -> tuple[Samples, float]:
    """The speech, and the most seconds of input that were held back."""
    tempo, parts, held = Tempo(speed, RATE), [], 0.0
    for begin in range(0, pcm.size, step):
        parts.append(tempo.write(pcm[begin : begin + step]))
        held = max(held, min(begin + step, pcm.size) - speed * sum(part.size for part in parts))
    return np.concatenate([*parts, tempo.finish()]), held / RATE


@pytest.mark.parametrize("speed", SPEEDS)
def test_duration_follows_and_pitch_stays(speed: float) -> None:
    heard, held = _run(speed, _tone(2.0), 480)
    assert heard.size == round(2.0 * RATE / speed)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(heard.size)))
    assert float(spectrum.argmax()) * RATE / heard.size == pytest.approx(440, abs=2)
    # The same loudness throughout, and no step that the tone does not make by itself.
    middle = heard[RATE // 10 : -RATE // 10]
    assert middle.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert np.abs(np.diff(middle)).max() < 1.1 * 0.5 * 2 * np.pi * 440 / RATE
    assert held <= 0.075 * max(1.0, speed)


@pytest.mark.parametrize("speed", SPEEDS)
def test_cuts_do_not_change_a_sample(speed: float) -> None:
    rng = np.random.default_rng(0)
    speech = (0.3 * np.cumsum(rng.normal(0, 0.02, RATE // 2))).clip(-1, 1).astype(np.float32)
    whole, _ = _run(speed, speech, speech.size)
    for step in (31, 613, 2_240):
        assert np.array_equal(_run(speed, speech, step)[0], whole)
    assert whole.size == round(speech.size / speed)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("samples", [0, 7, 700])
def test_hardly_any_speech(speed: float, samples: int) -> None:
    assert _run(speed, _tone(1.0)[:samples], 100)[0].size == round(samples / speed)


def test_the_last_word_is_not_lost() -> None:
    """A burst at the very end is still there at every speed."""
    pcm = np.concatenate([np.zeros(RATE, np.float32), _tone(0.1)])
    for speed in SPEEDS:
        heard, _ = _run(speed, pcm, 480)
        assert np.square(heard).sum() * speed > 0.75 * np.square(pcm).sum(), speed
        assert np.abs(heard[-round(0.05 * RATE / speed) :]).max() > 0.4, speed


def test_normal_speed_is_left_alone() -> None:
    pcm = _tone(0.2)
    encoder = make_encoder(AudioFormat(Codec.PCM_S16LE, RATE), RATE, speed=1.0)
    assert isinstance(encoder, PcmEncoder)
    assert encoder.encode(pcm) == PcmEncoder("s16le").encode(pcm)


def test_speed_goes_with_every_format_and_rate() -> None:
    encoder = make_encoder(AudioFormat(Codec.OPUS, 48_000), RATE, speed=2.0)
    heard = hear(b"".join(encoder.encode(part) for part in np.array_split(_tone(1.0), 11)) + encoder.finish())
    assert heard.pcm.size == pytest.approx(24_000, abs=4)


@pytest.mark.parametrize("speed", [0.249, 4.01, 0.0, -1.0, float("nan"), float("inf")])
def test_speeds_that_are_refused(speed: float) -> None:
    with pytest.raises(InvalidParameterError) as error:
        make_encoder(AudioFormat(Codec.WAV, RATE), RATE, speed=speed)
    assert error.value.param == "speed"
