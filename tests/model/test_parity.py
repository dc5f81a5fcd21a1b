"""The parity command: passes on what was recorded, fails on anything else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sled_tts.model.parity import main
from tests.model.factories import TINY, tiny, token_ids

SHARED = Path(os.environ.get("SLED_TTS_SHARED", Path(__file__).parents[3] / "shared"))


def _write(folder: Path, name: str, case: dict[str, Any], data: dict[str, Tensor]) -> None:
    save_file({k: v.contiguous() for k, v in data.items()}, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(case))


def _synthesis_case(kind: str, threshold: float) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the naive oracle does, written in the format of a recorded case."""
    stream = {"stream_n": 3, "stream_m": 2} if kind == "stream" else {}
    model, oracle = tiny(4, **stream)
    noise = torch.randn(2 if kind == "offline" else 1, 8, 6, generator=torch.Generator().manual_seed(2))
    rows = [token_ids(7 - 2 * row, row) for row in range(len(noise))]
    ids = torch.tensor([[1] * (7 - len(row)) + row for row in rows])
    steps = [
        oracle.synthesise(row, draw, 2.0, n=stream.get("stream_n"), m=stream.get("stream_m"))
        for row, draw in zip(rows, noise, strict=True)
    ]
    logits = torch.stack([s.logits for s in steps]).float()
    speech = [int((torch.sigmoid(row) < threshold).cumprod(0).sum()) for row in logits]
    stopped = torch.tensor([[2 if s == end else (1 if s > end else 0) for s in range(8)] for end in speech])
    case = {
        "kind": kind,
        "config": TINY | stream,
        "infer_cfg": 2.0,
        "steps": 8,
        "stop_threshold": threshold,
        "wav_len_frames_eval_rule": speech,
    }
    data = {
        **{f"sd.{name}": tensor for name, tensor in model.state_dict().items()},
        "sd.bceloss.pos_weight": torch.tensor([100.0]),
        "in.input_ids": ids,
        "in.attention_mask": (ids != 1).long(),
        "noise": noise,
        "out.ids": stopped,
        "out.new_latents": torch.stack([s.latents for s in steps]).float(),
        "out.latents": torch.stack([s.latents for s in steps]).float(),
        "out.z": torch.stack([s.z for s in steps]).float(),
        "out.h_cond": torch.stack([s.hidden for s in steps]).float(),
        "out.eos_logits": logits,
    }
    return case, data


@pytest.mark.parametrize("kind", ["offline", "stream"])
@pytest.mark.parametrize("threshold", [0.5, 0.999999])
def test_a_case_made_by_the_oracle_passes(
    kind: str, threshold: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path, "case", *_synthesis_case(kind, threshold))
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "out.z" in out
    assert "ok" in out
    assert "1 cases" in out


@pytest.mark.parametrize("tensor", ["out.z", "out.new_latents", "out.h_cond", "out.eos_logits", "sd.eos_head.weight"])
@pytest.mark.parametrize("value", [0.01, float("nan")])
def test_one_wrong_number_fails(tensor: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case, data = _synthesis_case("offline", 0.5)
    data[tensor].view(-1)[3] += value
    _write(tmp_path, "case", case, data)
    assert main([str(tmp_path)]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_case_that_cannot_be_replayed_fails_and_the_rest_still_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, data = _synthesis_case("offline", 0.5)
    _write(tmp_path, "b_good", case, data)
    _write(tmp_path, "a_bad", case, {k: v for k, v in data.items() if k != "sd.z_proj.bias"})
    assert main([str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "z_proj.bias" in captured.err
    assert "FAIL inf" in captured.out
    assert "b_good" in captured.out
    assert "ok" in captured.out


def test_no_cases_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert main([]) == 2
    assert "no recorded cases" in capsys.readouterr().err


needs_recordings = pytest.mark.skipif(
    not (SHARED / "parity").is_dir(), reason="recorded cases of the reference are not here (SLED_TTS_SHARED)"
)


@needs_recordings
def test_every_recorded_case_of_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    code = main([str(SHARED / "parity")])
    out = capsys.readouterr().out
    assert code == 0, out


@needs_recordings
@pytest.mark.parametrize("kind", ["offline", "stream"])
def test_a_wrong_gradient_fails(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"g_train_{kind}"
    data = load_file(SHARED / "parity" / f"{name}.safetensors")
    data["grad.model.layers.0.self_attn.k_proj.weight"][2, 3] += 0.002
    _write(tmp_path, name, json.loads((SHARED / "parity" / f"{name}.json").read_text()), data)
    assert main([str(tmp_path)]) == 1
    failing = [line for line in capsys.readouterr().out.splitlines() if "2.00e-03" in line]
    assert any("k_proj" in line for line in failing)
