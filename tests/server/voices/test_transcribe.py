"""The optional recogniser: real speech in, words out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sled_tts.model.checkpoint import BUILT_IN
from sled_tts.server.errors import InvalidParameterError, UnsupportedError
from sled_tts.server.service import UtteranceOptions
from sled_tts.server.settings import Settings
from sled_tts.server.voices.recordings import ReferenceRules, read_reference
from sled_tts.server.voices.setup import make_transcriber, reference_rules, voices_dir
from sled_tts.server.wiring import load_service
from tests.server.voices.sounds import encoded, voiced


def test_settings_reach_the_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(max_reference_bytes=5000, max_reference_s=7, max_text_chars=99, voices_dir=tmp_path)
    rules = reference_rules(settings)
    assert (rules.max_bytes, rules.max_s, rules.max_text_chars) == (5000, 7.0, 99)
    assert voices_dir(settings) == tmp_path
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert voices_dir(Settings()) == tmp_path / "data" / "sled-tts" / "voices"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert voices_dir(Settings()) == tmp_path / ".local" / "share" / "sled-tts" / "voices"
    assert make_transcriber("none") is None


def test_a_missing_recogniser_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pocketsphinx", None)
    with pytest.raises(UnsupportedError, match="extra 'eval'"):
        make_transcriber("pocketsphinx")


async def test_words_of_a_recording_are_found() -> None:
    pytest.importorskip("pocketsphinx")
    from sled_tts.model.evaluation.recognition import word_errors, words

    text = "The man was in the house and he did not see the light."
    service = load_service([BUILT_IN], slots=1, threads=1, device="cpu")
    try:
        utterance = await service.speak(text, UtteranceOptions(seed=3))
        pcm = np.concatenate([event.pcm async for event in utterance if hasattr(event, "pcm")])
        rate = service.models[0].sampling_rate
    finally:
        service.close()
    recogniser = make_transcriber("pocketsphinx")
    found = read_reference(encoded(pcm, rate), None, ReferenceRules(), recogniser).text
    assert word_errors(words(text), words(found)) <= 6
    with pytest.raises(InvalidParameterError):
        read_reference(encoded(voiced(3.0)), None, ReferenceRules(), recogniser)
