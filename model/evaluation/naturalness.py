"""Judges of how speech sounds, from the `quality` extra: DNSMOS (speechmos) and speaker embeddings (resemblyzer)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.recognition import Wave

_RATE = 16_000


@dataclass(frozen=True)
class Opinion:
    """Mean opinion scores as DNSMOS predicts them, 1 to 5: `p808` of overall quality, `ovrl` and `sig` of P.835."""

    p808: float
    ovrl: float
    sig: float


@dataclass(frozen=True)
class Judges:
    """Loaded models. DNSMOS alone is fooled by reversed speech: read it beside the recogniser's figures."""

    dnsmos: Any
    speaker: Any

    @classmethod
    def load(cls) -> Judges:
        """Raises ModelError when the extra is not installed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from resemblyzer import VoiceEncoder
                from speechmos import dnsmos
        except ImportError as error:
            raise ModelError(f"{error}; install the quality extra: pip install '.[quality]'") from error
        return cls(dnsmos, VoiceEncoder("cpu", verbose=False))

    def opinion(self, clips: Sequence[tuple[Wave, int]]) -> Opinion:
        """Mean over clips of mono samples in [-1, 1] and their rate."""
        scores = [self.dnsmos.run(np.clip(_resample(wave, rate), -1, 1), _RATE) for wave, rate in clips]
        return Opinion(*(float(np.mean([s[key] for s in scores])) for key in ("p808_mos", "ovrl_mos", "sig_mos")))

    def embedding(self, wave: Wave, rate: int) -> Wave:
        """A speaker embedding of unit length."""
        embedded: Wave = self.speaker.embed_utterance(_resample(wave, rate))
        return embedded

    def margin(self, clips: Sequence[tuple[Wave, int]], own: Wave, impostors: Sequence[Wave]) -> tuple[float, float]:
        """Mean similarity to the `own` embedding, and by how much it exceeds that to the nearest impostor."""
        embedded = np.stack([self.embedding(wave, rate) for wave, rate in clips])
        similarity = embedded @ own
        nearest = np.max([embedded @ other for other in impostors], axis=0) if impostors else np.zeros(len(clips))
        return float(similarity.mean()), float((similarity - nearest).mean())


def _resample(wave: Wave, rate: int) -> Wave:
    resampled: Wave = wave if rate == _RATE else soxr.resample(wave, rate, _RATE)
    return resampled.astype(np.float32)
