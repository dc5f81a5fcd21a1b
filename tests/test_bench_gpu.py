"""The GPU benchmark goes its whole way on a CPU, and says so where there is no GPU."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from sled_tts.bench import gpu, gpu_load
from sled_tts.bench.cli import app
from sled_tts.bench.gpu_load import Heard


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", list(sys.argv))


@pytest.mark.usefixtures("arguments")
def test_every_row_is_measured_on_a_cpu() -> None:
    done = CliRunner().invoke(app, ["gpu", "--device", "cpu", "--tiny", "--minutes", "60"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    about, results = answer["about"], answer["results"]
    assert about["torch"] == torch.__version__
    assert about["seed"] == 0
    assert about["tiny"]
    assert len(results["latents_right"]) == 5
    for row in (*results["attention_right"], *results["latents_right"], results["graphs_right"]):
        assert row["right"], row
    for name in ("one_stream", "throughput_64"):
        assert results[name]["times_real_time"] > 0
        assert results[name]["failed_steps"] == 0
        assert results[name]["ttfa_ms"]["p50"] > 0
    assert results["streams_before_underrun"][0]["streams"] == 2
    assert {(r["streams"], r["context"]) for r in results["steps"]} == {(1, 32), (1, 64), (2, 32), (2, 64)}
    for row in results["steps"]:
        assert row["share"] == pytest.approx(row["floor_ms"] / row["graphs"]["median"], rel=0.05, abs=0.001)
        assert {"eager", "plain_torch"} <= set(row)
    assert all(row["served_ms"] > 0 and row["gathered_ms"] > 0 for row in results["attention"])
    assert [row["streams"] for row in results["codec"]] == [1, 2]


@pytest.mark.usefixtures("arguments")
def test_without_a_gpu_nothing_is_measured() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = CliRunner().invoke(app, ["gpu"])
    assert done.exit_code == 2
    assert "no GPU" in done.output


def test_wrong_numbers_are_named() -> None:
    rows = [{"what": "a", "right": True}, {"what": "b", "right": False}]
    assert gpu.wrong({"latents_right": rows}) == ["b"]
    assert gpu.wrong({"attention_right": "left out: time was up"}) == []


def test_a_listener_who_waits_for_a_late_chunk_is_counted_once() -> None:
    heard = Heard(10.0, [(10.5, 100), (10.6, 100), (11.2, 100), (11.25, 50)])
    assert heard.ttfa_s == pytest.approx(0.5)
    # 200 samples from 10.5 on last until 10.7; the third chunk is half a second late, and all is well from there.
    assert heard.underruns(1000, 0.0) == 1
    assert heard.underruns(1000, 0.6) == 0
    assert gpu_load.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
