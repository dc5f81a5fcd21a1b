"""The judge itself: it must understand speech, refuse noise, and count words as the definition says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation import listen as listen_command
from sled_tts.model.evaluation.recognition import (
    RATE,
    ClosedSet,
    Wave,
    arctic_prompts,
    listen,
    score,
    summary,
    to_recogniser,
    word_errors,
    words,
)

ROOT = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("SLED_TTS_SHARED", ROOT.parent / "shared"))
WORDS = st.lists(st.sampled_from("abc"), max_size=7)


def _slow_distance(a: list[str], b: list[str]) -> int:
    """Levenshtein by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    substituted = _slow_distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(_slow_distance(a[1:], b) + 1, _slow_distance(a, b[1:]) + 1, substituted)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS)
def test_word_errors_are_the_edit_distance(a: list[str], b: list[str]) -> None:
    assert word_errors(a, b) == _slow_distance(a, b)


def test_words_are_spelt_as_in_the_dictionary() -> None:
    assert words("“Don’t,” said twenty-two O'Neills; don't!") == [
        "don't", "said", "twenty", "two", "o'neills", "don't",
    ]  # fmt: skip


def test_the_prompt_list_is_whole_and_has_no_doubles() -> None:
    prompts = arctic_prompts()
    assert len(prompts) > 1000
    assert len(set(prompts)) == len(prompts)
    assert all(words(prompt) and prompt == prompt.strip() for prompt in prompts)


def test_a_sentence_with_an_unknown_word_is_no_candidate_and_harms_no_other() -> None:
    closed = ClosedSet.of(["I love xqzzt dearly.", "I love you dearly."], ["The sun rose.", "It rained."], 3)
    assert closed.candidates == ("I love you dearly.", "The sun rose.", "It rained.")
    with pytest.raises(ModelError, match="dictionary"):
        ClosedSet.of(["xqzzt"], [], 3)


@pytest.mark.parametrize("wave", [np.zeros(RATE, np.float32), np.zeros(0, np.float32)], ids=["silence", "nothing"])
def test_silence_is_no_sentence(wave: Wave) -> None:
    closed = ClosedSet.of(["I love you dearly."], arctic_prompts(), 20)
    heard = listen("I love you dearly.", wave, RATE, closed)
    assert heard.words == 4
    assert heard.errors >= 4
    assert heard.chosen is False


def test_noise_scores_nothing() -> None:
    closed = ClosedSet.of(arctic_prompts()[:4], arctic_prompts(), 100)
    rng = np.random.default_rng(0)
    clips = [(text, rng.normal(0, 0.2, 2 * RATE).astype(np.float32), RATE) for text in closed.candidates[:4]]
    result = score(clips, closed)
    assert result.closed_set_accuracy <= 0.25
    assert result.open_wer >= 0.9


def test_a_text_that_is_no_candidate_counts_only_for_the_open_figure() -> None:
    closed = ClosedSet.of(["I love you dearly."], [], 1)
    result = score([("Something else.", np.zeros(RATE, np.float32), RATE)], closed)
    assert (result.clips, result.closed_set_clips) == (1, 0)
    with pytest.raises(ModelError, match="no clips"):
        summary([])


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
def test_the_recogniser_gets_sixteen_kilohertz_at_one_level(rate: int) -> None:
    tone = (0.01 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    samples = np.frombuffer(to_recogniser(tone, rate), np.int16)
    assert abs(len(samples) - RATE * 1.2) <= 2
    assert 0.75 * 32767 < np.abs(samples).max() < 0.85 * 32767
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(spectrum) * RATE / len(samples) == pytest.approx(440, abs=2)


def _real_recordings(count: int) -> list[tuple[str, Wave, int]]:
    clips: dict[str, tuple[str, Wave, int]] = {}
    for line in (SHARED / "data" / "cuts_dev.jsonl").read_text(encoding="utf-8").splitlines():
        cut = json.loads(line)
        source = cut["recording"]["sources"][0]["source"]
        text = cut["supervisions"][0]["text"]
        if source.startswith("kathleen/") and text not in clips and len(clips) < count:
            wave, rate = soundfile.read(SHARED / "data" / source, dtype="float32")
            clips[text] = (text, wave, rate)
    return list(clips.values())


@pytest.mark.skipif(not (SHARED / "data" / "cuts_dev.jsonl").is_file(), reason="no recordings here")
def test_people_are_understood_and_reversed_people_are_not() -> None:
    clips = _real_recordings(4)
    closed = ClosedSet.of([text for text, _, _ in clips], arctic_prompts(), 300)
    forwards = score(clips, closed)
    assert forwards.closed_set_accuracy == 1.0
    assert forwards.open_wer < 0.5
    backwards = score([(text, wave[::-1].copy(), rate) for text, wave, rate in clips], closed)
    assert backwards.closed_set_accuracy <= 0.25
    assert backwards.open_wer > 0.8


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_the_command_understands_a_synthesiser(tmp_path: Path) -> None:
    sentences = ["Author of the danger trail.", "I followed the line of the proposed railroad."]
    for index, sentence in enumerate(sentences):
        path = tmp_path / f"{index:04d}.wav"
        subprocess.run(["flite", "-voice", "slt", "-t", sentence, "-o", str(path)], check=True)
        wave, rate = soundfile.read(path, dtype="float32")
        soundfile.write(path, np.stack([soxr.resample(wave, rate, 44_100)] * 2, axis=1), 44_100)
    result = _run(tmp_path, sentences)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.output.splitlines()[-1])
    assert figures["clips"] == figures["closed_set_clips"] == 2
    assert figures["closed_set_accuracy"] == 1.0


def test_the_command_names_a_clip_without_a_text(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "0002.wav", np.zeros(100, np.float32), RATE)
    result = _run(tmp_path, ["One line."])
    assert result.exit_code == 2
    assert "0002.wav" in result.output


def _run(folder: Path, lines: list[str]) -> Any:
    prompts = folder / "prompts.txt"
    prompts.write_text("\n".join(lines) + "\n", encoding="utf-8")
    application = typer.Typer()
    application.command()(listen_command.main)
    return CliRunner().invoke(application, ["--wavs", str(folder), "--prompts", str(prompts)])
