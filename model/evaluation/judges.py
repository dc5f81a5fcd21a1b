"""What judges speech: who hears its words, whose voice it is, how good it sounds. Chosen by name.

`offline` judges come as wheels and run anywhere; the others are the paper's, and need a download.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from sled_tts.model.errors import ModelError

Wave = npt.NDArray[np.float32]
_T = TypeVar("_T")


class Transcriber(Protocol):
    """Hears words."""

    @property
    def name(self) -> str: ...

    def words(self, wave: Wave, rate: int) -> list[str]:
        """Lower-case words in mono samples `[N]` of -1..1."""


class SpeakerJudge(Protocol):
    """Tells voices apart."""

    @property
    def name(self) -> str: ...

    def embedding(self, wave: Wave, rate: int) -> Wave:
        """A vector of unit length; the product of two is their similarity."""


class QualityJudge(Protocol):
    """Predicts opinion scores."""

    @property
    def name(self) -> str: ...

    def scores(self, wave: Wave, rate: int) -> Mapping[str, float]:
        """Mean opinion scores, 1 to 5, by name: `p808`, `ovrl`, `sig`."""


def _pocketsphinx() -> Transcriber:
    from sled_tts.model.evaluation.offline_judges import Pocketsphinx

    return Pocketsphinx()


def _conformer_transducer() -> Transcriber:
    from sled_tts.model.evaluation.published_judges import ConformerTransducer

    return ConformerTransducer.load()


def _hubert() -> Transcriber:
    from sled_tts.model.evaluation.published_judges import HubertCtc

    return HubertCtc.load()


def _resemblyzer() -> SpeakerJudge:
    from sled_tts.model.evaluation.offline_judges import Resemblyzer

    return Resemblyzer.load()


def _wavlm() -> SpeakerJudge:
    from sled_tts.model.evaluation.published_judges import WavLmTdnn

    return WavLmTdnn.load()


def _dnsmos() -> QualityJudge:
    from sled_tts.model.evaluation.offline_judges import Dnsmos

    return Dnsmos.load()


TRANSCRIBERS: Mapping[str, Callable[[], Transcriber]] = {
    "pocketsphinx": _pocketsphinx,
    "conformer-transducer": _conformer_transducer,
    "hubert": _hubert,
}
SPEAKER_JUDGES: Mapping[str, Callable[[], SpeakerJudge]] = {"resemblyzer": _resemblyzer, "wavlm-tdnn": _wavlm}
QUALITY_JUDGES: Mapping[str, Callable[[], QualityJudge]] = {"dnsmos": _dnsmos}


def choose(known: Mapping[str, Callable[[], _T]], name: str, param: str) -> _T:
    """Load a judge by name. ModelError for an unknown one, or one that is not installed or cannot be fetched."""
    if name not in known:
        raise ModelError(f"{param} {name!r} is unknown; there are: {', '.join(known)}", param=param)
    return known[name]()
