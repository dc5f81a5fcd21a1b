"""Benchmarks run, say what they ran on, and end with a line of JSON that holds what the table shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from sled_tts.bench.cli import app
from sled_tts.bench.common import Spread
from sled_tts.bench.reference import Times, reference
from sled_tts.bench.roofline import Traffic, read_bandwidth
from sled_tts.bench.shapes import published, random_sled
from sled_tts.bench.speakers import Speakers
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.quantization import Precision
from sled_tts.model.sled import Sled
from tests.fakes import tiny_runner
from tests.model.factories import TINY, tiny, token_ids


def _run(*words: str) -> tuple[str, dict[str, Any]]:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return done.stdout, answer


def test_a_step_is_timed_for_every_batch_and_context() -> None:
    words = [
        "--model",
        "built-in",
        "--threads",
        "1",
        "--batch",
        "1",
        "--batch",
        "2",
        "--context",
        "32",
        "--blocks",
        "1",
    ]
    text, answer = _run("step", *words)
    assert [(r["batch"], r["context"]) for r in answer["results"]] == [(1, 32), (2, 32)]
    for row in answer["results"]:
        assert 0 < row["wall"]["best"] <= row["wall"]["median"]
        assert row["share"] == pytest.approx(row["floor"] / row["wall"]["median"], abs=0.002)
        assert f"{row['wall']['best']:.2f}" in text
    assert answer["about"]["torch"] == torch.__version__
    assert answer["about"]["precision"] == "fp32"


def test_a_stream_is_timed_to_its_first_audio_and_beyond() -> None:
    words = ["--model", "built-in", "--threads", "1", "--rounds", "2", "--seconds", "0.2"]
    _, answer = _run("stream", *words)
    assert set(answer["results"]) == {"ttfa", "ttfa_cpu", "rtf", "rtf_cpu"}
    assert all(0 < row["best"] <= row["median"] for row in answer["results"].values())


def test_fewer_bits_are_told_apart_from_all_of_them() -> None:
    pytest.importorskip("pocketsphinx")
    _, answer = _run("precision", "--count", "1", "--candidates", "2", "--threads", "1", "--seed", "3")
    exact, *rough = answer["results"]
    assert (exact["precision"], exact["frames"]) == ("fp32", 0.0)
    for row in rough:
        assert 0 < row["first_frame"] < row["frames"] < 1.5
        assert 0 <= row["accuracy"] <= 1
    assert answer["about"]["sentences"] == 1


def test_thread_and_process_hand_out_the_same_audio() -> None:
    words = ["--streams", "3", "--frames", "24", "--device-ms", "0", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "sled_tts.bench.engine", *words], capture_output=True, text=True, check=True
    )
    (row,) = json.loads(done.stdout.splitlines()[-1])["results"]
    for name in ("bare", "thread", "process"):
        assert row[name]["cpu_ms_mean"] > 0
    assert row["process"]["total_cpu_ms_mean"] > row["process"]["cpu_ms_mean"]


def test_decoding_is_timed_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    codec = Path(__file__).parent.parent / "model" / "builtin" / "codec"
    picture = tmp_path / "codec.png"
    words = ["--codec", str(codec), "--batch", "1", "--seconds", "0.3", "--threads", "1", "--plot", str(picture)]
    _, answer = _run("codec", *words)
    assert {row["chunk"] for row in answer["results"]} == {0, 1, 2, 4, 8, 16, 64}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_speakers_say_what_the_model_says() -> None:
    """What is timed is the computation, text turns included, and not something like it."""
    runner, sled, _ = tiny_runner(stream_n=3, stream_m=4)
    ids = token_ids(8, seed=1)
    speakers = Speakers(runner, [ids, token_ids(6, seed=2)], [7, 8], streaming=True, cfg_scale=2.0)
    for _ in range(14):
        speakers.step()
    request = GenerationRequest(ids, seeded_noise(7, sled.config.generator.noise_channels), max_frames=14)
    want = generate(sled, [request], cfg_scale=2.0, n=3, m=4, ignore_stop=True)[0].latents
    torch.testing.assert_close(speakers.latents(0, 14), want, atol=1e-4, rtol=1e-4)


def test_published_traffic_is_that_of_the_published_checkpoint() -> None:
    """203.6 M parameters; a step reads the backbone and the conditioned part of the generator, modulation by blocks."""
    config = published()
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Sled(config).parameters())
    assert parameters == 203_631_744
    one, four = (Traffic.of(config, Precision.INT8, 2, 0, streams=s).weights for s in (1, 4))
    assert 1.6e8 < one < 1.75e8
    assert four > one
    assert Traffic.of(config, Precision.FP32, 2, 100).cache == 2 * 12 * 2 * 100 * 1024 * 4
    assert read_bandwidth(16, 2) > 1e8


def test_spread_is_of_the_values() -> None:
    spread = Spread.of([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (spread.best, spread.median) == (1.0, 3.0)
    assert spread.p10 <= spread.median <= spread.p90


def test_streams_one_after_another_cost_their_sum() -> None:
    steps = [[0.001, 0.002]] * 17
    assert Times.of(steps).wall == pytest.approx([1.0, 1.0])
    assert Times.of(steps, streams=4).cpu == pytest.approx([8.0, 8.0])


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    sled = tiny()[0]
    with pytest.raises(SystemExit, match="no checkout"), reference(sys.executable, tmp_path, sled, 1):
        pass


def test_random_weights_leave_nothing_out() -> None:
    sled = random_sled(tiny()[0].config, seed=1)
    assert all(float(p.abs().max()) > 0 for p in sled.parameters())
    assert sled.config.latent_dim == TINY["vae_embed_dim"]


def test_the_command_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sled_tts.clients.main", "bench", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("reference", "step", "codec", "precision", "load"):
        assert name in done.stdout
