"""Judges that install as wheels and bring their weights: pocketsphinx, resemblyzer, DNSMOS (speechmos)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.judges import Wave

RATE = 16_000


def at_16k(wave: Wave, rate: int) -> Wave:
    """Mono samples at the rate that every judge here hears."""
    resampled: Wave = wave if rate == RATE else soxr.resample(wave, rate, RATE)
    return np.ascontiguousarray(resampled, dtype=np.float32)


@dataclass(frozen=True)
class Pocketsphinx:
    """The general English model; see decision 0003 for what it is worth."""

    name: str = "pocketsphinx"

    def words(self, wave: Wave, rate: int) -> list[str]:
        # Here, so that the other judges do not need the `eval` extra.
        from sled_tts.model.evaluation.recognition import recognise_open, to_recogniser

        return recognise_open(to_recogniser(wave, rate))


@dataclass(frozen=True)
class Resemblyzer:
    """Speaker embeddings of a small GE2E network."""

    encoder: Any
    name: str = "resemblyzer"

    @classmethod
    def load(cls) -> Resemblyzer:
        """Raises ModelError when the `quality` extra is not installed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from resemblyzer import VoiceEncoder
        except ImportError as error:
            raise ModelError(f"{error}; install the quality extra: pip install '.[quality]'") from error
        return cls(VoiceEncoder("cpu", verbose=False))

    def embedding(self, wave: Wave, rate: int) -> Wave:
        embedded: Wave = self.encoder.embed_utterance(at_16k(wave, rate))
        return embedded


@dataclass(frozen=True)
class Dnsmos:
    """Microsoft's published DNSMOS networks (P.808 and P.835), which the paper uses too. Reversed speech fools them:
    read them beside a recogniser."""

    judge: Any
    name: str = "dnsmos"

    @classmethod
    def load(cls) -> Dnsmos:
        """Raises ModelError when the `quality` extra is not installed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from speechmos import dnsmos
        except ImportError as error:
            raise ModelError(f"{error}; install the quality extra: pip install '.[quality]'") from error
        return cls(dnsmos)

    def scores(self, wave: Wave, rate: int) -> Mapping[str, float]:
        made = self.judge.run(np.clip(at_16k(wave, rate), -1, 1), RATE)
        return {"p808": float(made["p808_mos"]), "ovrl": float(made["ovrl_mos"]), "sig": float(made["sig_mos"])}
