"""The paper's judges: Conformer-Transducer (WER-C), HuBERT-Large (WER-H), WavLM-TDNN (SIM), from the hub.

They need `pip install transformers` (HuBERT, WavLM) or `pip install 'nemo_toolkit[asr]'` (the transducer), and a
download of 0.4 to 2.5 GB once.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.judges import Wave
from sled_tts.model.evaluation.offline_judges import RATE, at_16k
from sled_tts.model.evaluation.spelling import words

CONFORMER_TRANSDUCER = "nvidia/stt_en_conformer_transducer_xlarge"
HUBERT = "facebook/hubert-large-ls960-ft"
WAVLM_TDNN = "microsoft/wavlm-base-plus-sv"
_T = TypeVar("_T")


def _package(name: str, install: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"{error}; this judge needs: pip install {install}") from error


def _fetched(what: str, fetch: Callable[[], _T]) -> _T:
    try:
        return fetch()
    # Each library has its own errors for a hub that cannot be reached.
    except Exception as error:
        raise ModelError(f"{what} could not be fetched or read: {error}") from error


@dataclass(frozen=True)
class ConformerTransducer:
    """NeMo's Conformer-Transducer."""

    model: Any
    name: str = "conformer-transducer"

    @classmethod
    def load(cls, spec: str = CONFORMER_TRANSDUCER) -> ConformerTransducer:
        """Raises ModelError without NeMo, or when the weights cannot be had."""
        asr = _package("nemo.collections.asr", "'nemo_toolkit[asr]'")
        return cls(_fetched(spec, lambda: asr.models.ASRModel.from_pretrained(spec).eval()))

    def words(self, wave: Wave, rate: int) -> list[str]:
        heard = self.model.transcribe([at_16k(wave, rate)], batch_size=1, verbose=False)
        # Older versions give (best, all) for transducers; newer ones objects with a text.
        first = heard[0][0] if isinstance(heard, tuple) else heard[0]
        return words(getattr(first, "text", first))


@dataclass(frozen=True)
class HubertCtc:
    """HuBERT-Large fine-tuned on LibriSpeech, greedy CTC."""

    model: Any
    processor: Any
    name: str = "hubert"

    @classmethod
    def load(cls, spec: str = HUBERT) -> HubertCtc:
        """`spec`: hub id or folder. Raises ModelError without transformers, or when the weights cannot be had."""
        hub = _package("transformers", "transformers")
        model = _fetched(spec, lambda: hub.HubertForCTC.from_pretrained(spec).eval())
        return cls(model, _fetched(spec, lambda: hub.Wav2Vec2Processor.from_pretrained(spec)))

    @torch.inference_mode()
    def words(self, wave: Wave, rate: int) -> list[str]:
        given = self.processor(at_16k(wave, rate), sampling_rate=RATE, return_tensors="pt")
        ids = self.model(given.input_values).logits.argmax(-1)
        return words(self.processor.batch_decode(ids)[0])


@dataclass(frozen=True)
class WavLmTdnn:
    """WavLM with an x-vector (TDNN) head, transformers' port of it; the paper's may be the larger one of UniSpeech."""

    model: Any
    extractor: Any
    name: str = "wavlm-tdnn"

    @classmethod
    def load(cls, spec: str = WAVLM_TDNN) -> WavLmTdnn:
        """`spec`: hub id or folder. Raises ModelError without transformers, or when the weights cannot be had."""
        hub = _package("transformers", "transformers")
        model = _fetched(spec, lambda: hub.WavLMForXVector.from_pretrained(spec).eval())
        return cls(model, _fetched(spec, lambda: hub.AutoFeatureExtractor.from_pretrained(spec)))

    @torch.inference_mode()
    def embedding(self, wave: Wave, rate: int) -> Wave:
        given = self.extractor(at_16k(wave, rate), sampling_rate=RATE, return_tensors="pt")
        made = F.normalize(self.model(given.input_values).embeddings, dim=-1)[0]
        return np.asarray(made.numpy(), dtype=np.float32)
