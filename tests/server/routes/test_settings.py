"""Environment, overrides, and misspelt variables."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sled_tts.server.errors import InvalidParameterError
from sled_tts.server.settings import load_settings


def test_environment_and_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLED_TTS_PORT", "1234")
    monkeypatch.setenv("SLED_TTS_API_KEY", "a, b")
    monkeypatch.setenv("SLED_TTS_MODEL", "built-in,/some/folder")
    settings = load_settings(port=None, slots=3)
    assert (settings.port, settings.slots, settings.api_key) == (1234, 3, ("a", "b"))
    assert settings.model == ("built-in", "/some/folder")
    assert load_settings(port=99).port == 99


def test_a_misspelt_variable_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLED_TTS_API_KEYS", "secret")
    with pytest.raises(InvalidParameterError, match="SLED_TTS_API_KEYS"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("slots", 0), ("port", 70000), ("log_level", "loud"), ("device", "cuda:"), ("api_key", ("a", "")), ("sloots", 3)],
)
def test_values_out_of_range_and_unknown_names(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        load_settings(**{name: value})
