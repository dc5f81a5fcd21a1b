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
from sled_tts.model.evaluation.speaking import Line
from sled_tts.model.evaluation.utterances import Utterance

# The RMS of the training data of checkpoints that want prompts re-spoken.
_LEVEL = 0.07


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


def as_known(bundle: ModelBundle, wave: Wave) -> Wave:
    """A recording at the codec's rate, as the checkpoint knows speech: re-spoken at the nearest of its constant
    pitches, if it has any. ModelError when nothing in it is voiced."""
    pitches, rate = bundle.extras.pitches_hz, bundle.codec.config.sampling_rate
    if not pitches:
        return wave
    # Here, so that checkpoints that take any speech do not need WORLD.
    from sled_tts.model.pitch import lock_pitch, median_pitch, nearest_pitch

    exact = wave.astype(np.float64)
    locked = lock_pitch(exact, rate, nearest_pitch(median_pitch([exact], rate), pitches))
    return (locked * (_LEVEL / max(float(np.sqrt(np.square(locked).mean())), 1e-5))).astype(np.float32)


def prompt_latents(bundle: ModelBundle, wave: Wave) -> Tensor:
    """Normalised latents `[S, D]` of whole frames of a recording at the codec's rate, as the server encodes a voice to
    clone. ModelError for less than a frame, or when nothing in it is voiced."""
    frames = len(wave) // bundle.codec.config.hop_length
    if frames < 1:
        raise ModelError("a prompt is shorter than one frame", param="prefix")
    known = as_known(bundle, wave[: frames * bundle.codec.config.hop_length])
    return bundle.normalise(bundle.codec.encode(torch.from_numpy(np.ascontiguousarray(known))[None, None])[0])


@torch.inference_mode()
def through_codec(bundle: ModelBundle, wave: Wave) -> Wave:
    """A recording at the codec's rate as the checkpoint could at best say it: as it knows speech, encoded and decoded,
    through the quantiser if its latents are sums of codes."""
    codec, given = bundle.codec, torch.from_numpy(np.ascontiguousarray(as_known(bundle, wave)))[None, None]
    latents = codec.encode(given) if _knows_codes(bundle) else codec.encoder(given).transpose(1, 2)
    decoded: Wave = codec.decode(latents)[0].numpy()
    return np.ascontiguousarray(decoded[: len(wave)])


def _knows_codes(bundle: ModelBundle) -> bool:
    """Whether the quantiser leaves the checkpoint's own voice as it is; without a voice, as the published ones."""
    own = bundle.voice()
    if own is None:
        return True
    quantizer = bundle.codec.quantizer
    again = quantizer.decode(quantizer.encode(own.latents[None]))[0]
    # Voices are kept in half precision.
    return float((again - own.latents).norm()) < 0.02 * float(own.latents.norm())


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
        )
        for one, wave, before in zip(utterances, prompts, told, strict=True)
    ]
