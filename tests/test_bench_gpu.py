"""The GPU benchmark goes its whole way on a CPU, and says so where there is no GPU."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from sled_tts.bench import gpu, gpu_checks, gpu_load
from sled_tts.bench.cli import app
from sled_tts.bench.gpu_load import Heard
from sled_tts.bench.gpu_parts import PLAIN, Bench
from sled_tts.model.kernels.choose import eight_bits_missing


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


def eight_bits(trouble: Exception | None) -> dict[str, Any]:
    """The check of 8-bit keys and values where reading them raises `trouble`, or gives nothing but zeros."""

    def attend(q: Any, *rest: Any) -> Any:
        got = PLAIN.attend(q, *rest)
        if rest[-1] is None or not rest[-1]:
            return got
        if trouble is not None:
            raise trouble
        return torch.zeros_like(got)

    bench = Bench(torch.device("cpu"), replace(PLAIN, attend=attend), True, 0, math.inf)
    with torch.inference_mode():
        return gpu_checks.check_eight_bits(bench, bench.sled(torch.float32))


def test_an_eight_bit_kernel_that_fails_or_is_wrong_fails_the_check() -> None:
    broken = eight_bits(RuntimeError("an illegal memory access was encountered"))
    assert broken["right"] is False
    assert broken["failed"] == "RuntimeError: an illegal memory access was encountered"
    zeros = eight_bits(None)
    assert zeros["right"] is False
    assert zeros["error"] > zeros["limit"]
    for row in (broken, zeros):
        assert gpu.wrong({"latents_right": [row]}) == ["8-bit keys and values against those served"]
        assert gpu.not_run({"latents_right": [row]}) == []


def test_what_a_machine_cannot_run_is_told_with_its_reason() -> None:
    row = eight_bits(NotImplementedError("no e4m3 here"))
    assert gpu.wrong({"latents_right": [row]}) == []
    assert gpu.not_run({"latents_right": [row]}) == ["8-bit keys and values against those served: no e4m3 here"]
    assert eight_bits_missing("triton", (8, 0)) == (
        "Triton's kernels need compute capability 8.9 for e4m3, this GPU has 8.0"
    )
    able: list[tuple[str, tuple[int, int] | None]] = [("triton", (8, 9)), ("triton", (9, 0)), ("torch", (8, 0))]
    assert [eight_bits_missing(*each) for each in (*able, ("torch", None))] == [None] * 4


def test_a_listener_who_waits_for_a_late_chunk_is_counted_once() -> None:
    heard = Heard(10.0, [(10.5, 100), (10.6, 100), (11.2, 100), (11.25, 50)])
    assert heard.ttfa_s == pytest.approx(0.5)
    # 200 samples from 10.5 on last until 10.7; the third chunk is half a second late, and all is well from there.
    assert heard.underruns(1000, 0.0) == 1
    assert heard.underruns(1000, 0.6) == 0
    assert gpu_load.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
