"""Means of networks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from sled_tts.model.checkpoint import load_bundle, save_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.tokenizer import train_tokenizer
from sled_tts.model.training.averaging import MovingAverage, average_checkpoints
from sled_tts.model.training.cli import app
from tests.fakes import tiny_codec
from tests.model.factories import tiny


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three of the same shape, with the same codec and tokenizer."""
    root = tmp_path_factory.mktemp("networks")
    tokenizer = train_tokenizer(["some words"], 300)
    for seed in range(3):
        sled, _ = tiny(seed, vocab_size=300)
        about = {"name": f"n{seed}", "latent_std": 2.0, "alignment": {"layer": 0, "heads": [0], "lead_s": 0.0}}
        save_bundle(root / f"n{seed}", sled, tokenizer, tiny_codec(), about, dtype=torch.float32)
    return [root / f"n{seed}" for seed in range(3)]


def test_a_moving_average_forgets_what_is_long_ago() -> None:
    sled, _ = tiny(0)
    average = MovingAverage(sled, 0.5)
    name, weight = next(iter(sled.named_parameters()))
    want, first = weight.detach().clone(), weight.detach().clone()
    for step in range(1, 120):
        with torch.no_grad():
            weight.add_(1.0)
        average.update(sled, step)
        decay = min(0.5, step / (step + 50))
        want = decay * want + (1 - decay) * weight.detach()
    found = dict(average.model.named_parameters())[name]
    torch.testing.assert_close(found, want)
    # Half a step behind, on the average, for each half that is kept.
    torch.testing.assert_close(found, first + 118.0)
    assert not found.requires_grad


def test_a_moving_average_goes_on_from_its_state() -> None:
    sled, _ = tiny(0)
    other, _ = tiny(1)
    average, again = MovingAverage(sled, 0.9), MovingAverage(other, 0.9)
    again.load_state_dict(average.state_dict())
    for moving in (average, again):
        moving.update(other, 40)
    assert all(torch.equal(a, b) for a, b in zip(average.model.parameters(), again.model.parameters(), strict=True))


@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 5.0)])
def test_every_tensor_is_the_weighted_mean(networks: list[Path], tmp_path: Path, weights: tuple[float, ...]) -> None:
    average_checkpoints(networks, tmp_path / "out", weights)
    states = [load_file(folder / "model.safetensors") for folder in networks]
    shares = torch.tensor(weights or (1.0, 1.0, 1.0))
    for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items():
        stacked = torch.stack([state[name] for state in states])
        want = torch.tensordot(shares / shares.sum(), stacked, 1)
        torch.testing.assert_close(tensor, want, atol=1e-6, rtol=1e-5)


def test_the_rest_is_the_firsts_and_it_can_be_loaded(networks: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["average", str(tmp_path / "out"), *map(str, networks), *["--weight", "1"] * 3])
    assert done.exit_code == 0, done.output
    assert "alignment_heads" in done.output
    bundle = load_bundle(str(tmp_path / "out"))
    assert bundle.name == "n0"
    assert bundle.extras.alignment is None
    assert float(bundle.extras.latent_std[0]) == 2.0


def test_the_mean_of_a_network_with_itself_is_itself(networks: list[Path], tmp_path: Path) -> None:
    average_checkpoints([networks[0], networks[0]], tmp_path / "out")
    same = load_file(networks[0] / "model.safetensors")
    assert all(torch.equal(t, same[name]) for name, t in load_file(tmp_path / "out" / "model.safetensors").items())


@pytest.mark.parametrize("what", ["config.json", "vocab.json", "codec/model.safetensors", "latent_std", "tensors"])
def test_what_does_not_fit_together_is_refused(networks: list[Path], tmp_path: Path, what: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(networks[1], other)
    about = json.loads((other / "sled_tts.json").read_text())
    if what == "latent_std":
        (other / "sled_tts.json").write_text(json.dumps(about | {"latent_std": 1.0}))
    elif what == "tensors":
        state = load_file(other / "model.safetensors")
        save_file(state | {"more": torch.zeros(1)}, other / "model.safetensors")
    else:
        (other / what).write_bytes((other / what).read_bytes() + b" ")
    with pytest.raises(ModelError, match=what):
        average_checkpoints([networks[0], other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0), (1.0, -1.0)])
def test_weights_are_as_many_and_positive(networks: list[Path], tmp_path: Path, weights: tuple[float, ...]) -> None:
    with pytest.raises(ModelError, match="2 checkpoints take as many weights above 0"):
        average_checkpoints(networks[:2], tmp_path / "out", weights)


def test_a_checkpoint_that_is_not_there_is_named(networks: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["average", str(tmp_path / "out"), str(networks[0]), str(tmp_path / "none")])
    assert done.exit_code == 1
    assert "is neither a folder" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over_and_one_is_no_mean(networks: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is there already"):
        average_checkpoints(networks, tmp_path)
    with pytest.raises(ModelError, match="two checkpoints or more"):
        average_checkpoints(networks[:1], tmp_path / "out")
