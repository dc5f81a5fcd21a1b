"""Which recordings are taken, what becomes of them, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sled_tts.server.audio.reference import decode_audio
from sled_tts.server.audio.speech_level import clipped_share, level_speech
from sled_tts.server.errors import BadAudioError, InputTooLongError, InvalidParameterError, SledTtsError
from sled_tts.server.voices.recordings import ReferenceRules, read_reference
from tests.server.voices.sounds import encoded, film, muxed, silence, voiced

RULES = ReferenceRules(max_bytes=4_000_000, max_s=10.0, max_text_chars=500)
SAID = "three seconds of a voice saying this"


def lying_flac() -> bytes:
    """A FLAC of two seconds whose header says that it lasts a minute."""
    data = bytearray(encoded(voiced(2.0), form="FLAC"))
    place = data.index(b"fLaC") + 8 + 14
    data[place : place + 4] = (60 * 16_000).to_bytes(4, "big")
    return bytes(data)


def rms_db(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(wave))))


Bad = tuple[str, Callable[[], bytes], type[SledTtsError], str, str | None]
BAD: list[Bad] = [
    ("empty", lambda: b"", BadAudioError, "is empty", SAID),
    ("text", lambda: b"this is no audio at all\n" * 100, BadAudioError, "known format", SAID),
    ("random", lambda: np.random.default_rng(1).bytes(5000), BadAudioError, "known format", SAID),
    ("picture", lambda: b"\x89PNG\r\n\x1a\n" + bytes(2000), BadAudioError, "known format", SAID),
    ("film", film, BadAudioError, "no audio", SAID),
    ("half a header", lambda: encoded(voiced(3.0))[:20], BadAudioError, "known format", SAID),
    ("no samples", lambda: encoded(np.zeros(0, np.float32)), BadAudioError, "no samples", SAID),
    ("digital silence", lambda: encoded(np.zeros(48_000, np.float32)), BadAudioError, "silent", SAID),
    ("a quiet room", lambda: encoded(silence(3.0)), BadAudioError, "silent", SAID),
    ("short", lambda: encoded(voiced(0.4)), BadAudioError, "too short: 0.4", SAID),
    ("short in silence", lambda: encoded(np.concatenate([silence(2), voiced(0.4), silence(2)])), BadAudioError,
     "too short", SAID),
    ("long", lambda: encoded(voiced(11.0)), InputTooLongError, "longer than 10 s", SAID),
    ("long, m4a", lambda: muxed(voiced(12.0), 16_000, "mp4", "aac"), InputTooLongError, "longer than 10 s", SAID),
    ("long, raw aac", lambda: muxed(voiced(12.0), 16_000, "adts", "aac"), InputTooLongError, "longer", SAID),
    ("said to be long", lying_flac, InputTooLongError, "longer than 10 s", SAID),
    ("large", lambda: bytes(4_000_001), InputTooLongError, "4000000 bytes", SAID),
    ("clipped", lambda: encoded(np.clip(voiced(3.0, level_db=0.0), -0.99, 0.99)), BadAudioError, "clipped", SAID),
    ("clipped, then turned down", lambda: encoded(0.3 * np.clip(voiced(3.0, level_db=2.0), -1, 1)), BadAudioError,
     "clipped", SAID),
    ("not finite", lambda: encoded(np.full(48_000, np.nan, np.float32), subtype="FLOAT"), BadAudioError, "finite",
     SAID),
    ("telegraph", lambda: encoded(voiced(3.0, 4000), 4000), BadAudioError, "4000 samples a second", SAID),
    ("channels", lambda: encoded(np.tile(voiced(1.5)[:, None], 12)), BadAudioError, "12 channels", SAID),
    ("no transcript", lambda: encoded(voiced(3.0)), InvalidParameterError, "needs ref_text", None),
    ("blank transcript", lambda: encoded(voiced(3.0)), InvalidParameterError, "needs ref_text", " \n"),
    ("transcript of more", lambda: encoded(voiced(3.0)), InvalidParameterError, "does not fit", SAID * 4),
    ("transcript of less", lambda: encoded(voiced(3.0)), InvalidParameterError, "does not fit", "hello"),
    ("endless transcript", lambda: encoded(voiced(3.0)), InputTooLongError, "500 characters", "x" * 501),
]  # fmt: skip


@pytest.mark.parametrize(("data", "kind", "words", "text"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_recordings_are_refused_with_the_reason(
    data: Callable[[], bytes], kind: type[SledTtsError], words: str, text: str | None
) -> None:
    with pytest.raises(SledTtsError, match=words) as caught:
        read_reference(data(), text, RULES)
    assert type(caught.value) is kind
    assert caught.value.param in ("ref_audio", "ref_text")


def test_a_playlist_opens_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encoded(voiced(3.0)))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{secret}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{secret}'\n"
    for text in (playlist, concat):
        with pytest.raises(BadAudioError, match="known format"):
            decode_audio(text.encode(), 10.0)


FORMATS: list[tuple[str, Callable[[], bytes], int]] = [
    ("wav 16", lambda: encoded(voiced(3.0)), 16_000),
    ("wav 24, 48 kHz", lambda: encoded(voiced(3.0, 48_000), 48_000, subtype="PCM_24"), 48_000),
    ("wav mu-law", lambda: encoded(voiced(3.0, 8000), 8000, subtype="ULAW"), 8000),
    ("aiff", lambda: encoded(voiced(3.0, 44_100), 44_100, "AIFF"), 44_100),
    ("flac", lambda: encoded(voiced(3.0, 22_050), 22_050, "FLAC"), 22_050),
    ("ogg vorbis", lambda: encoded(voiced(3.0), form="OGG"), 16_000),
    ("mp3", lambda: encoded(voiced(3.0, 44_100), 44_100, "MP3"), 44_100),
    ("m4a", lambda: muxed(voiced(3.0, 44_100), 44_100, "mp4", "aac"), 44_100),
    ("aac", lambda: muxed(voiced(3.0, 44_100), 44_100, "adts", "aac"), 44_100),
    ("webm", lambda: muxed(voiced(3.0, 48_000), 48_000, "webm", "libopus"), 48_000),
]


@pytest.mark.parametrize(("data", "rate"), [row[1:] for row in FORMATS], ids=[row[0] for row in FORMATS])
def test_common_formats_and_rates_are_read(data: Callable[[], bytes], rate: int) -> None:
    read = read_reference(data(), SAID, RULES)
    assert read.rate == rate
    assert len(read.pcm) / rate == pytest.approx(3.0, abs=0.11)
    assert rms_db(read.pcm) == pytest.approx(-20.0, abs=1.0)
    spectrum = np.abs(np.fft.rfft(read.pcm))
    assert np.argmax(spectrum) * rate / len(read.pcm) == pytest.approx(150.0, abs=11.0)


def test_silence_around_speech_is_cut() -> None:
    wave = np.concatenate([silence(1.0), voiced(2.0), silence(1.5)])
    levelled = level_speech(wave, 16_000)
    assert len(levelled.pcm) / 16_000 == pytest.approx(2.2, abs=0.04)
    inside = level_speech(np.concatenate([voiced(1.0), silence(1.0), voiced(1.0)]), 16_000)
    assert len(inside.pcm) / 16_000 == pytest.approx(3.0, abs=0.04)


@pytest.mark.parametrize(
    ("level", "after"), [(-40.0, -20.0), (-36.0, -20.0), (-28.0, -28.0), (-16.0, -16.0), (-11.0, -20.0)]
)
def test_only_unusual_levels_are_changed(level: float, after: float) -> None:
    wave = voiced(2.0, level_db=level)
    levelled = level_speech(wave, 16_000)
    assert rms_db(levelled.pcm) == pytest.approx(after, abs=0.5)
    assert float(np.abs(levelled.pcm).max()) <= 1.0
    assert (levelled.gain_db == 0.0) == (level == after)


def test_an_offset_is_removed() -> None:
    assert abs(float(level_speech(voiced(2.0) + np.float32(0.1), 16_000).pcm.mean())) < 1e-3


def test_loud_speech_is_not_taken_for_clipped() -> None:
    loud = voiced(3.0)
    loud = loud / np.abs(loud).max() * np.float32(0.9999)
    assert clipped_share(loud) < 1e-4
    assert clipped_share(np.clip(loud * 1.5, -1, 1)) > 1e-3


def test_channels_in_opposite_phase_do_not_cancel() -> None:
    wave = voiced(2.0)
    mixed, _ = decode_audio(encoded(np.stack([wave, -wave], axis=1)), 10.0)
    assert rms_db(mixed) == pytest.approx(-20.0, abs=0.2)
    mixed, _ = decode_audio(encoded(np.stack([wave, wave / 2], axis=1)), 10.0)
    assert rms_db(mixed) == pytest.approx(-22.5, abs=0.2)


class Heard:
    """A recogniser that has heard one thing."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[tuple[int, int]] = []

    def transcribe(self, pcm: np.ndarray, rate: int) -> str:
        self.asked.append((len(pcm), rate))
        return self.text


def test_a_transcript_is_found_only_when_there_is_none() -> None:
    recogniser = Heard("words that somebody has said here")
    data = encoded(voiced(3.0))
    assert read_reference(data, SAID, RULES, recogniser).text == SAID
    assert recogniser.asked == []
    found = read_reference(data, None, RULES, recogniser)
    assert found.text == recogniser.text
    assert recogniser.asked == [(len(found.pcm), 16_000)]
    with pytest.raises(InvalidParameterError, match="no speech was recognised"):
        read_reference(data, None, RULES, Heard(""))
    with pytest.raises(InvalidParameterError, match="does not fit"):
        read_reference(data, None, RULES, Heard("no"))
