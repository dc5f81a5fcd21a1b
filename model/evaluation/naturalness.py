"""How speech sounds, over many clips: predicted opinions, and whose voice it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sled_tts.model.bundle import ModelBundle
from sled_tts.model.evaluation.judges import QualityJudge, SpeakerJudge, Wave
from sled_tts.model.speaking import sound_of

Clip = tuple[Wave, int]


@dataclass(frozen=True)
class Opinion:
    """Mean opinion scores as DNSMOS predicts them, 1 to 5: `p808` of overall quality, `ovrl` and `sig` of P.835."""

    p808: float
    ovrl: float
    sig: float


def opinion(judge: QualityJudge, clips: Sequence[Clip]) -> Opinion:
    """Mean over clips of mono samples in [-1, 1] and their rate."""
    scores = [judge.scores(wave, rate) for wave, rate in clips]
    return Opinion(*(float(np.mean([score[key] for score in scores])) for key in ("p808", "ovrl", "sig")))


def voice_embeddings(bundle: ModelBundle, judge: SpeakerJudge) -> dict[str, Wave]:
    """The checkpoint's own voices as they sound, by id."""
    rate = bundle.codec.config.sampling_rate
    return {
        v.id: judge.embedding(sound_of(bundle, v.latents, v.register, v.dynamics), rate) for v in bundle.extras.voices
    }


def margin(
    judge: SpeakerJudge, clips: Sequence[Clip], own: Wave, impostors: Sequence[Wave]
) -> tuple[float, float | None]:
    """Mean similarity to the `own` embedding, and by how much it exceeds that to the nearest impostor (None without
    impostors)."""
    embedded = np.stack([judge.embedding(wave, rate) for wave, rate in clips])
    similarity = embedded @ own
    if not impostors:
        return float(similarity.mean()), None
    nearest = np.max([embedded @ other for other in impostors], axis=0)
    return float(similarity.mean()), float((similarity - nearest).mean())
