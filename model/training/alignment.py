"""Where the words and phones of a known text are in a recording, by pocketsphinx's forced alignment."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pocketsphinx import Decoder

RATE = 16_000
_STEP_S = 0.01
_PAUSE = "pau"


@dataclass(frozen=True)
class Aligned:
    """`words`: (word, start, end) in seconds; `phones`: (phone, start, end), lower-case, `pau` for silence."""

    words: list[tuple[str, float, float]]
    phones: list[tuple[str, float, float]]

    def phone_labels(self, frames: int, frame_s: float) -> list[str]:
        """The phone at the centre of each of `frames` frames."""
        labels, index = [], 0
        for frame in range(frames):
            centre = (frame + 0.5) * frame_s
            while index < len(self.phones) - 1 and self.phones[index][2] <= centre:
                index += 1
            labels.append(self.phones[index][0])
        return labels

    def phrases(self, pause_s: float, shortest_s: float) -> list[tuple[int, int]]:
        """Ranges of words between pauses of at least `pause_s`, each lasting `shortest_s` or more where it can."""
        spans, first = [], 0
        for i in range(1, len(self.words)):
            gap = self.words[i][1] - self.words[i - 1][2]
            if gap >= pause_s and self.words[i - 1][2] - self.words[first][1] >= shortest_s:
                spans.append((first, i))
                first = i
        spans.append((first, len(self.words)))
        return spans


def spoken_words(text: str) -> list[str]:
    """Lower-case words as the dictionary spells them."""
    return re.findall(r"[a-z']+", text.lower().replace("-", " "))


@dataclass
class Aligner:
    """One pocketsphinx decoder; not for several threads."""

    decoder: Decoder

    @classmethod
    def create(cls) -> Aligner:
        return cls(Decoder(samprate=RATE, lm=None, loglevel="FATAL"))

    def align(self, samples: npt.NDArray[np.int16], text: str) -> Aligned | None:
        """Align 16 kHz `samples [N]`; None when a word is not in the dictionary or the text does not fit. What was
        aligned before makes no difference."""
        words = [w if self.decoder.lookup_word(w) is not None else w.strip("'") for w in spoken_words(text)]
        if not words or any(self.decoder.lookup_word(word) is None for word in words):
            return None
        data = samples.astype("<i2").tobytes()
        # Features are normalised by what the decoder has heard, other speakers too.
        self.decoder.reinit_feat()
        try:
            self.decoder.set_align_text(" ".join(words))
            self._decode(data)
            if self.decoder.hyp() is None:
                return None
            self.decoder.set_alignment()
            self._decode(data)
        except RuntimeError:  # the text does not fit the recording
            return None
        found, phones = [], []
        for word in self.decoder.get_alignment():
            if not word.name.startswith(("<", "[")):
                found.append((word.name.split("(")[0], word.start * _STEP_S, (word.start + word.duration) * _STEP_S))
            for phone in word:
                name = phone.name.lower()
                name = _PAUSE if name == "sil" or name.startswith("+") else name
                phones.append((name, phone.start * _STEP_S, (phone.start + phone.duration) * _STEP_S))
        return Aligned(found, phones) if len(found) == len(words) else None

    def _decode(self, data: bytes) -> None:
        self.decoder.start_utt()
        self.decoder.process_raw(data, full_utt=True)
        self.decoder.end_utt()
