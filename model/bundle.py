"""A loaded checkpoint, and what its `sled_tts.json` says beyond the published layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.config import DEFAULT_CFG_SCALE, SledConfig
from sled_tts.model.errors import CheckpointError
from sled_tts.model.following import AlignmentHeads
from sled_tts.model.melody.melody import Melody, read_melody
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import Tokenizer
from sled_tts.model.voices import BuiltInVoice, read_voices

_EXTRA_KEYS = {
    "name",
    "codec",
    "latent_mean",
    "latent_std",
    "max_segment_chars",
    "max_prompt_s",
    "max_frames_per_token",
    "speech_prompts",
    "calibrate_voices",
    "cloned_cfg_scale",
    "speech_unit_s",
    "speech_level",
    "quantised",
    "noise_scale",
    "pitches_hz",
    "reference_pitch_hz",
    "alignment",
    "melody",
    "voices",
    "about",
}


@dataclass(frozen=True)
class ModelExtras:
    """`sled_tts.json`. The network sees `(codec latent - mean) / std`.

    `max_segment_chars`: longest text the network was trained to say in one go, None when only the position
    limit counts. `max_prompt_s`: of a longer recording that is added as a voice it goes on from a part (`opening`);
    None for any. `max_frames_per_token`: generation is cut, and reported as cut, beyond this rate. `speech_prompts`:
    a streaming network was trained with prompt blocks (`interleave.prompt_block`). `calibrate_voices`: what it says in
    a cloned voice is brought nearer to the recording (`model.calibration`). `cloned_cfg_scale`: its guidance in one
    unless a request says otherwise. `speech_unit_s`: its pace, for word timings (`bench/timings.py` prints it).
    `voices`: the first is the default.
    `noise_scale`: what its samples' noise is multiplied with; below 1 is steadier and less varied. `pitches_hz`: it
    knows speech at these constant pitches only, so recordings are re-spoken at the nearest (`model.pitch`), or, with a
    melody that puts their pitch back, all at the one that it knows best: `reference_pitch_hz`.
    `speech_level`: the RMS all speech in training had, 0 for any. `quantised`: the network was trained on sums of
    codes, as the published ones, not on what the encoder gives.
    `alignment`: the heads that follow the text, None when nobody has looked for them. `melody`: the pitch that its
    speech at constant pitch is given on its way out; None leaves it as it is.
    """

    name: str
    latent_mean: Tensor
    latent_std: Tensor
    codec: str | None = None
    max_segment_chars: int | None = None
    max_prompt_s: float | None = None
    max_frames_per_token: float = 40.0
    speech_prompts: bool = False
    calibrate_voices: bool = False
    cloned_cfg_scale: float = DEFAULT_CFG_SCALE
    speech_unit_s: float = 0.04
    noise_scale: float = 1.0
    pitches_hz: tuple[float, ...] = ()
    reference_pitch_hz: float | None = None
    speech_level: float = 0.0
    quantised: bool = True
    alignment: AlignmentHeads | None = None
    melody: Melody | None = None
    voices: tuple[BuiltInVoice, ...] = ()

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        *,
        name: str,
        latent_dim: int,
        folder: Path | None = None,
        config: SledConfig | None = None,
    ) -> ModelExtras:
        unknown = sorted(set(data) - _EXTRA_KEYS)
        if unknown:
            raise CheckpointError(f"sled_tts.json: unknown key {unknown[0]}", param=unknown[0])
        mean = torch.tensor(data.get("latent_mean", 0.0)).float().expand(latent_dim)
        std = torch.tensor(data.get("latent_std", 1.0)).float().expand(latent_dim)
        if not bool((std > 0).all()):
            raise CheckpointError("sled_tts.json: latent_std must be positive", param="latent_std")
        pitches_hz = tuple(float(hz) for hz in data.get("pitches_hz", ()))
        reference_hz = None if (given := data.get("reference_pitch_hz")) is None else float(given)
        if reference_hz is not None and (reference_hz not in pitches_hz or data.get("melody") is None):
            raise CheckpointError(
                f"sled_tts.json: reference_pitch_hz must be one of pitches_hz and needs a melody: {reference_hz:g}",
                param="reference_pitch_hz",
            )
        max_prompt_s = None if (given := data.get("max_prompt_s")) is None else float(given)
        if max_prompt_s is not None and not max_prompt_s > 0:
            raise CheckpointError("sled_tts.json: max_prompt_s must be positive", param="max_prompt_s")
        cloned_cfg_scale = float(data.get("cloned_cfg_scale", DEFAULT_CFG_SCALE))
        if not 0.0 <= cloned_cfg_scale <= 10.0:
            raise CheckpointError("sled_tts.json: cloned_cfg_scale must be in [0, 10]", param="cloned_cfg_scale")
        return cls(
            name=str(data.get("name", name)),
            latent_mean=mean,
            latent_std=std,
            codec=data.get("codec"),
            max_segment_chars=data.get("max_segment_chars"),
            max_prompt_s=max_prompt_s,
            max_frames_per_token=float(data.get("max_frames_per_token", 40.0)),
            speech_prompts=bool(data.get("speech_prompts", False)),
            calibrate_voices=bool(data.get("calibrate_voices", False)),
            cloned_cfg_scale=cloned_cfg_scale,
            speech_unit_s=float(data.get("speech_unit_s", 0.04)),
            noise_scale=float(data.get("noise_scale", 1.0)),
            pitches_hz=pitches_hz,
            reference_pitch_hz=reference_hz,
            speech_level=float(data.get("speech_level", 0.0)),
            quantised=bool(data.get("quantised", True)),
            alignment=AlignmentHeads.from_dict(data.get("alignment"), config),
            melody=read_melody(data.get("melody"), folder, latent_dim, pitches_hz),
            voices=read_voices(data.get("voices", []), folder, latent_dim),
        )


@dataclass(frozen=True)
class ModelBundle:
    """Everything one checkpoint needs to speak."""

    name: str
    config: SledConfig
    sled: Sled
    tokenizer: Tokenizer
    codec: Codec
    extras: ModelExtras

    @property
    def is_streaming(self) -> bool:
        return self.config.is_streaming

    @property
    def takes_blocks(self) -> bool:
        """Whether a voice is a prompt block in front of the text (`model.interleave.prompt_block`)."""
        return self.is_streaming and self.extras.speech_prompts

    def without_melody(self) -> ModelBundle:
        """The same, speaking at one pitch: the nearest to each recording's, which nothing would put back."""
        return replace(self, extras=replace(self.extras, melody=None, reference_pitch_hz=None))

    def without_expansion(self) -> ModelBundle:
        """The same, with a melody that leaves the codec's noise as it is."""
        melody = self.extras.melody
        if melody is None or melody.expansion is None:
            return self
        return replace(self, extras=replace(self.extras, melody=replace(melody, expansion=None)))

    def normalise(self, latents: Tensor) -> Tensor:
        """Codec latents `[..., D]` to what the network sees."""
        return (latents - self.extras.latent_mean.to(latents)) / self.extras.latent_std.to(latents)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return latents * self.extras.latent_std.to(latents) + self.extras.latent_mean.to(latents)

    def voice(self, voice_id: str | None = None) -> BuiltInVoice | None:
        """A voice of this checkpoint: by id, or the default one, None when it has none. Raises CheckpointError for an
        id it does not have."""
        if voice_id is None:
            return next(iter(self.extras.voices), None)
        for voice in self.extras.voices:
            if voice.id == voice_id:
                return voice
        raise CheckpointError(f"{self.name} has no voice {voice_id!r}", param="voice")
