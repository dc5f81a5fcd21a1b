"""Empty, cut off, runaway: each is recognised, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.cli import app
from sled_tts.model.evaluation.failures import Failure, failures_page, judge, outcomes, tally
from sled_tts.model.evaluation.judges import Wave
from sled_tts.model.evaluation.sentences import arctic_prompts, new_sentences
from tests.model.evaluation.small import small_bundle

RATE = 16_000
TEXT = "a sentence of twenty five letters"  # 28 letters


def _speech(seconds: float, before: float = 0.0, after: float = 0.0) -> Wave:
    loud = 0.2 * np.sin(np.arange(round(seconds * RATE)) / 9)
    return np.concatenate([np.zeros(round(before * RATE)), loud, np.zeros(round(after * RATE))]).astype(np.float32)


@pytest.mark.parametrize(
    ("wave", "bound_reached", "expected"),
    [
        (_speech(2.0, 0.1, 0.2), False, None),
        (_speech(1.1), False, None),
        (_speech(5.0), False, None),
        (_speech(0.0, 2.0), False, Failure.EMPTY),
        (np.zeros(0, np.float32), False, Failure.EMPTY),
        (_speech(0.1, 1.0), False, Failure.EMPTY),
        (_speech(0.8, 0.5, 0.5), False, Failure.CUT_OFF),
        (_speech(2.0), True, Failure.RUNAWAY),
        (_speech(6.0), False, Failure.RUNAWAY),
    ],
)
def test_what_went_wrong_shows_in_the_length(wave: Wave, bound_reached: bool, expected: Failure | None) -> None:
    assert judge(TEXT, wave, RATE, bound_reached=bound_reached).failure is expected


def test_a_tally_counts_kinds_and_takes_silence_from_what_was_said() -> None:
    said = judge(TEXT, _speech(2.0, 0.1, 0.3), RATE, bound_reached=False)
    empty = judge(TEXT, np.zeros(RATE, np.float32), RATE, bound_reached=False)
    row = tally([said] * 3 + [empty])
    assert (row["sentences"], row["empty"], row["cut off"], row["runaway"]) == (4, 1, 0, 0)
    assert row["per_1000"] == pytest.approx(250)
    assert row["leading_s"] == pytest.approx(0.1, abs=0.001)
    assert row["trailing_p95_s"] == pytest.approx(0.3, abs=0.001)
    with pytest.raises(ModelError, match="nothing to count"):
        tally([])


def test_new_sentences_are_new_and_the_same_again() -> None:
    prompts = arctic_prompts()
    made = new_sentences(prompts, 300, seed=1, longest=60)
    assert len(set(made)) == 300
    assert not set(made) & set(prompts)
    assert max(map(len, made)) <= 60
    assert made == new_sentences(prompts, 300, seed=1, longest=60)
    assert made != new_sentences(prompts, 300, seed=2, longest=60)
    with pytest.raises(ModelError, match="only"):
        new_sentences(prompts[:3], 500, seed=0)


def test_every_text_is_spoken_and_those_that_do_not_end_are_runaways() -> None:
    bundle = small_bundle(voices=1)
    texts = ["one two", "a longer line of text", "three"]
    found = list(outcomes(bundle, texts, voice="v0", seed=0, cfg_scale=2.0, batch=2))
    assert sorted(one.text for one in found) == sorted(texts)
    page = failures_page(bundle, {"v0": found}, "Scale: three.", {})
    assert page.rows[0]["sentences"] == 3


def test_a_network_that_never_stops_runs_away() -> None:
    bundle = small_bundle(stream_n=None, stream_m=None)
    with torch.no_grad():
        bundle.sled.eos_head.weight.zero_()
    endless = list(outcomes(bundle, ["one two", "three"], voice=None, seed=0, cfg_scale=2.0))
    assert [one.failure for one in endless] == [Failure.RUNAWAY] * 2


def test_the_command_counts_the_built_in_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["failures", "--count", "3", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["sled-tts", "evaluate", *arguments])
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "failures.json").read_text(encoding="utf-8"))
    assert content["rows"][0]["sentences"] == 3
    assert content["rows"][0]["minutes"] > 0
    assert content["command"].endswith(f"--out {tmp_path.name}")
    text = (tmp_path / "failures.md").read_text(encoding="utf-8")
    assert "| failures in 1,000 |" in text
    assert str(tmp_path) not in text


def test_a_wrong_model_ends_with_a_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["failures", "--model", "nowhere", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "error: model 'nowhere'" in done.output
    assert list(tmp_path.iterdir()) == []
