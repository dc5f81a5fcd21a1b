"""What becomes of text in scripts that are not spoken, by policy."""

from __future__ import annotations

import pytest

from sled_tts.server.engine.request import TextSkipped
from sled_tts.server.errors import UnsupportedError, reply_for
from sled_tts.server.sessions.reading import Reader, UnsupportedText


def read(reader: Reader, text: str) -> str:
    return "".join(piece.text for piece in [*reader.feed(text), *reader.flush()])


def test_a_warning_names_what_was_left_out() -> None:
    reader = Reader()
    assert read(reader, "Say привет to 2 friends.") == "Say to two friends."
    assert reader.skipped == [TextSkipped("cyrillic", "привет", 4, 10)]
    refusal = reader.nothing_said()
    assert refusal is not None
    assert reply_for(refusal).code == "unsupported_text"


def test_a_refusal_says_where() -> None:
    reader = Reader(UnsupportedText.ERROR)
    with pytest.raises(UnsupportedError, match=r"characters 4 to 10 .*cyrillic"):
        read(reader, "Say привет to friends.")
    assert (reply_for(reader.nothing_said() or Exception()).http_status) == 422


def test_a_try_hands_it_on() -> None:
    reader = Reader(UnsupportedText.PASS)
    assert read(reader, "Say привет to 2.") == "Say привет to two."
    assert reader.skipped == []
    assert reader.nothing_said() is None


def test_warnings_are_bounded() -> None:
    reader = Reader()
    assert read(reader, "да yes " * 1000).count("yes") == 1000
    assert len(reader.skipped) == 32
