"""Voices that a checkpoint brings along."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sled_tts.model.checkpoint import ModelExtras
from sled_tts.model.errors import CheckpointError
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.envelope import Envelope
from sled_tts.model.voices import BuiltInVoice, read_voices, write_voice

VOICE = BuiltInVoice("kim", "Kim", "What Kim says.", torch.randn(9, 6).half().float(), "calm")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    entries = json.loads(json.dumps([write_voice(VOICE, tmp_path)]))
    (read,) = read_voices(entries, tmp_path, 6)
    assert (read.id, read.name, read.text, read.description) == ("kim", "Kim", "What Kim says.", "calm")
    assert torch.equal(read.latents, VOICE.latents)
    extras = ModelExtras.from_dict({"voices": entries, "speech_prompts": True}, name="x", latent_dim=6, folder=tmp_path)
    assert extras.voices[0].id == "kim"
    assert extras.speech_prompts


def test_dynamics_are_kept_whole(tmp_path: Path) -> None:
    loud = np.array([[-40.0], [0.0]], np.float32).repeat(17, axis=1)
    dynamics = Dynamics(loud, 0.1 * loud, Envelope(np.full((4, 17), 0.3, np.float32)))
    entries = json.loads(json.dumps([write_voice(replace(VOICE, dynamics=dynamics), tmp_path)]))
    (read,) = read_voices(entries, tmp_path, 6)
    assert torch.equal(read.latents, VOICE.latents)
    assert read.dynamics is not None
    assert all(np.array_equal(value, dynamics.arrays()[name]) for name, value in read.dynamics.arrays().items())
    held = load_file(tmp_path / entries[0]["file"])
    for harm in ({"gains_db": None}, {"gains_db": torch.zeros(2, 9)}, {"levels_db": -torch.from_numpy(loud)}):
        save_file({k: v for k, v in (held | harm).items() if v is not None}, tmp_path / entries[0]["file"])
        with pytest.raises(CheckpointError, match=r"kim\.safetensors.*(levels|gains)_db"):
            read_voices(entries, tmp_path, 6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"text": None}, "missing key text"),
        ({"colour": "red"}, "missing key colour"),
        ({"file": "gone.safetensors"}, r"gone\.safetensors"),
        ({"file": "../kim.safetensors"}, "no file beside it"),
        ({"file": "narrow.safetensors"}, r"\[4, 5\], expected \[S, 6\]"),
        ({"file": "empty.safetensors"}, "latents"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    save_file({"latents": torch.zeros(4, 5)}, tmp_path / "narrow.safetensors")
    save_file({"else": torch.zeros(4, 6)}, tmp_path / "empty.safetensors")
    entry = {k: v for k, v in (write_voice(VOICE, tmp_path) | change).items() if v is not None}
    with pytest.raises(CheckpointError, match=named):
        read_voices([entry], tmp_path, 6)


def test_two_voices_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="same id"):
        read_voices([write_voice(VOICE, tmp_path)] * 2, tmp_path, 6)
