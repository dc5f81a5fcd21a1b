"""The last stage of a recipe: the folder that a server speaks with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sled_tts.model.checkpoint import save_bundle
from sled_tts.model.codec.codec import Codec
from sled_tts.model.melody.melody import FILE
from sled_tts.model.sled import Sled
from sled_tts.model.training.batches import TrainingData
from sled_tts.model.training.data.shards import ShardIndex
from sled_tts.model.training.intonation import speaker_registers
from sled_tts.model.training.melody import MelodyTraining
from sled_tts.model.training.recipe import Recipe, preparation
from sled_tts.model.training.speakers import find_voice
from sled_tts.model.voices import write_voice

_PROMPT_S = (2.0, 3.5)


def write_checkpoint(recipe: Recipe, work: Path, data: TrainingData, model: Sled, codec: Codec, out: Path) -> None:
    """Network, codec, tokenizer, built-in voices, and the melody of a recipe that has one, which must be in `work`.
    Raises ModelError for voices of speakers who are not in the data, or whose pitch cannot be told."""
    out.mkdir(parents=True, exist_ok=True)
    middle = recipe.codec.config.frame_rate * sum(_PROMPT_S) / 2
    voices = [find_voice(data, speaker, middle) for speaker in recipe.voice.voices]
    extras = {
        "name": recipe.voice.name,
        "latent_mean": data.mean.tolist(),
        "latent_std": data.std,
        "max_segment_chars": recipe.voice.max_segment_chars,
        "max_frames_per_token": recipe.voice.max_frames_per_token,
        **_prompts(recipe, codec.config.frame_rate),
        **_speech(recipe),
    }
    if recipe.melody is not None:
        registers = speaker_registers(work / "corpus", recipe.voice.voices)
        voices = [replace(voice, register=registers[voice.id]) for voice in voices]
        extras |= add_melody(work / FILE, recipe.melody, out)
    extras["voices"] = [write_voice(voice, out) for voice in voices]
    save_bundle(out, model, data.tokenizer, codec, extras, dtype=torch.float16)


def _prompts(recipe: Recipe, frame_rate: float) -> dict[str, Any]:
    """Whether and how long prompts were."""
    how = recipe.training.prompts
    if not how.share > 0:
        return {"speech_prompts": False}
    return {"speech_prompts": True, "max_prompt_s": how.max_frames / frame_rate}


def add_melody(trained: Path, how: MelodyTraining, out: Path) -> dict[str, Any]:
    """Copy a trained melody into a checkpoint; returns what its `sled_tts.json` says of it."""
    shutil.copyfile(trained, out / FILE)
    return {"melody": {"depth": how.depth, "noise_scale": how.noise_scale}}


def known_speech(how: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint that was trained on recordings prepared so (`recordings.Preparation` as a dict) must make of
    others, for them to sound as what it knows."""
    known: dict[str, Any] = {"pitches_hz": list(how["pitches_hz"])} if how["lock_pitch"] else {}
    return known | ({"speech_level": how["level"]} if how["level"] else {})


def _speech(recipe: Recipe) -> dict[str, Any]:
    """What speech the network has learnt."""
    data = recipe.data
    if data.shards is not None:
        index = ShardIndex.load(Path(data.shards))
        return {"quantised": index.store == "codes", **known_speech(index.settings["how"])}
    known = known_speech(asdict(preparation(recipe))) if data.manifests else {}
    return {"quantised": recipe.codec.quantised, **known}
