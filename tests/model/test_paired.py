"""A transcript in pieces, and its reading, moment by moment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sled_tts.model.paired import paired_levels
from sled_tts.model.reciting import pieces, word_ends
from tests.model.test_time_warping import RATE, sounds

LENGTHS = [0.3, 0.45, 0.25, 0.4, 0.35]


def test_levels_are_compared_where_the_same_is_said() -> None:
    """The reading is slower, has pauses and loses 12 dB above 1.5 kHz; what is said is in three pieces, one empty."""
    slower = [1.4 * length for length in LENGTHS]
    reading = sounds(slower, [0.1, 0.3, 0.0, 0.2, 0.1], 1)
    spectrum = np.fft.rfft(reading)
    spectrum[np.fft.rfftfreq(len(reading), 1 / RATE) > 1500] *= 0.25
    dull = np.fft.irfft(spectrum, len(reading)).astype(np.float32)
    whole = sounds(LENGTHS, [0.0] * 5, 2)
    cut = round(sum(LENGTHS[:2]) * RATE)
    said = [whole[:cut], np.zeros(320, np.float32), whole[cut:]]
    ours, theirs = paired_levels(said, reading, RATE)
    assert ours.shape == theirs.shape
    assert ours.shape[1] == 129
    assert np.corrcoef(ours.mean(axis=0), theirs.mean(axis=0))[0, 1] > 0.95
    near = [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(ours, theirs, strict=True)]
    assert np.median(near) > 0.7, "other moments of the two do not sound alike"
    _, duller = paired_levels(said, dull, RATE)
    change = duller.mean(axis=0) - theirs.mean(axis=0)
    assert np.abs(change[5:20]).max() < 4.0
    np.testing.assert_allclose(change[32:60], -12.0, atol=4.0)


def test_where_nothing_sounds_nothing_is_compared() -> None:
    silence = np.zeros(RATE, np.float32)
    said = sounds(LENGTHS, [0.0] * 5, 2)
    for pair in (([], said), ([silence], said), ([said], silence), ([said[:100]], said)):
        with pytest.raises(ValueError, match=r"nothing sounds|concatenate|too few"):
            paired_levels(*pair, RATE)


WORDS = st.lists(st.text("abcß'", min_size=1, max_size=5), min_size=1, max_size=9)


@given(WORDS, st.data(), st.sampled_from([" ", "  ", "\n"]))
def test_pieces_have_all_words_once(words: list[str], data: st.DataObject, space: str) -> None:
    inner = data.draw(st.sets(st.integers(1, max(1, len(words) - 1)))) if len(words) > 1 else set()
    text = f" {space.join(words)} "
    assert len(word_ends(text)) == len(words)
    parts = pieces(text, sorted(inner))
    assert len(parts) == len(inner) + 1
    assert [word for part in parts for word in part.split()] == words
    assert np.cumsum([len(part.split()) for part in parts])[:-1].tolist() == sorted(inner)
