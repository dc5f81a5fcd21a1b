"""The paper's prompts: the first seconds of an utterance, or another utterance of its speaker."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from sled_tts.model.checkpoint import ModelBundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.judges import Wave
from sled_tts.model.evaluation.utterances import Utterance
from sled_tts.model.references import as_known, encode_recording, register_of
from sled_tts.model.speaking import Line, sound_of


class Setting(StrEnum):
    """What an utterance of a test set goes on from."""

    NONE = "none"
    PREFIX = "3 s prefix"
    REFERENCE = "reference utterance"


def references(utterances: Sequence[Utterance]) -> list[Utterance | None]:
    """For each utterance, the one before it of the same speaker; for a speaker's first, the speaker's last (as the
    public implementation does). None for a speaker with one utterance."""
    of_speaker: dict[str, list[int]] = {}
    for index, one in enumerate(utterances):
        of_speaker.setdefault(one.speaker, []).append(index)
    found: list[Utterance | None] = [None] * len(utterances)
    for own in of_speaker.values():
        for place, index in enumerate(own):
            if len(own) > 1:
                found[index] = utterances[own[place - 1]]
    return found


def prompt_recordings(
    utterances: Sequence[Utterance], setting: Setting, rate: int, prefix_s: float = 3.0
) -> list[Wave | None]:
    """Mono samples at `rate` of each utterance's prompt. ModelError for a speaker without another utterance."""
    if setting is Setting.NONE:
        return [None] * len(utterances)
    if setting is Setting.PREFIX:
        return [one.wave(rate)[: round(prefix_s * rate)] for one in utterances]
    found: list[Wave | None] = []
    for one, reference in zip(utterances, references(utterances), strict=True):
        if reference is None:
            raise ModelError(f"{one.speaker} has only {one.id}: no reference utterance", param="data")
        found.append(reference.wave(rate))
    return found


def prompt_latents(bundle: ModelBundle, wave: Wave) -> Tensor:
    """Normalised latents `[S, D]` of whole frames of a recording at the codec's rate, as the server encodes a voice to
    clone. ModelError for less than a frame, or when nothing in it is voiced."""
    frames = len(wave) // bundle.codec.config.hop_length
    if frames < 1:
        raise ModelError("a prompt is shorter than one frame", param="prefix")
    known = as_known(bundle, wave[: frames * bundle.codec.config.hop_length])
    return bundle.normalise(encode_recording(bundle, known))


@torch.inference_mode()
def through_codec(bundle: ModelBundle, wave: Wave) -> Wave:
    """A recording at the codec's rate as the checkpoint could at best say it: as it knows speech, encoded and
    decoded, and with the melody that it hears in it."""
    latents = encode_recording(bundle, as_known(bundle, wave))
    decoded = sound_of(bundle, latents, register_of(bundle, wave))
    return np.ascontiguousarray(decoded[: len(wave)])


def prompted_lines(
    bundle: ModelBundle, utterances: Sequence[Utterance], setting: Setting, prompts: Sequence[Wave | None]
) -> list[Line]:
    """What to say after what, for `speak_lines`."""
    told = [None if one is None else one.text for one in references(utterances)]
    return [
        Line(
            one.text,
            None if wave is None else prompt_latents(bundle, wave),
            before if setting is Setting.REFERENCE else None,
            None if wave is None else register_of(bundle, wave),
        )
        for one, wave, before in zip(utterances, prompts, told, strict=True)
    ]
