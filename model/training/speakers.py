"""Speech of a speaker of the corpus, to ship with a checkpoint as a voice."""

from __future__ import annotations

import numpy as np
import torch

from sled_tts.model.errors import ModelError
from sled_tts.model.training.batches import TrainingData
from sled_tts.model.training.synthetic import CorpusItem
from sled_tts.model.voices import BuiltInVoice


def find_voice(data: TrainingData, speaker: str, frames: float) -> BuiltInVoice:
    """The utterance of a speaker whose length is nearest to `frames`. Raises ModelError for an unknown speaker."""
    found: tuple[CorpusItem, np.ndarray] | None = None
    known: set[str] = set()
    for corpus in data.windows():
        known |= {item.speaker for item in corpus.items}
        for item in corpus.items:
            nearer = found is None or abs(item.frames - frames) < abs(found[0].frames - frames)
            if item.speaker == speaker and nearer:
                latents = corpus.latents[item.offset : item.offset + item.frames]
                found = item, np.asarray(latents, dtype=np.float32)
    if found is None:
        some = ", ".join(sorted(known)[:20])
        raise ModelError(f"no speaker {speaker!r} in the corpus; there are: {some}", param="voice.voices")
    return BuiltInVoice(speaker, speaker.title(), found[0].text, torch.from_numpy(found[1]))
