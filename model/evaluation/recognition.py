"""Judging speech with pocketsphinx: open word error rate and closed-set accuracy.

Closed set: the recogniser must pick the sentence out of a few hundred candidates (JSGF grammar), which
asks whether a sentence can be told apart; open WER asks how well each word can be. Neither is naturalness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr
from pocketsphinx import Decoder

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.sentences import arctic_prompts as arctic_prompts
from sled_tts.model.evaluation.spelling import word_errors as word_errors
from sled_tts.model.evaluation.spelling import words as words

RATE = 16_000
Wave = npt.NDArray[np.float32]


def to_recogniser(wave: Wave, rate: int) -> bytes:
    """16 kHz int16 with 0.1 s of silence around it, levelled: the recogniser is sensitive to both."""
    resampled = soxr.resample(wave, rate, RATE) if rate != RATE else wave
    peak = float(np.abs(resampled).max()) if len(resampled) else 0.0
    edge = np.zeros(RATE // 10, dtype=np.float32)
    scaled = np.concatenate([edge, resampled * (0.8 / max(peak, 1e-3)), edge])
    samples: npt.NDArray[np.int16] = (np.clip(scaled, -1, 1) * 32767).astype(np.int16)
    return samples.tobytes()


def _decode(decoder: Decoder, audio: bytes) -> list[str]:
    decoder.start_utt()
    decoder.process_raw(audio, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr.split() if hypothesis is not None else []


@dataclass(frozen=True)
class ClosedSet:
    """A fixed set of candidate sentences, all of whose words the dictionary has. `patient`: hardly any is given up
    before its end, so that one bad word in a long text is no verdict; slower."""

    candidates: tuple[str, ...]
    patient: bool = False

    @classmethod
    def of(cls, wanted: Sequence[str], others: Sequence[str], size: int) -> ClosedSet:
        """`wanted` first, filled up with `others`; a sentence with an unknown word is left out, since one
        such word makes the whole grammar fail."""
        lookup = Decoder(samprate=RATE, loglevel="FATAL")
        known = [t for t in dict.fromkeys([*wanted, *others]) if words(t) and all(map(lookup.lookup_word, words(t)))]
        if not known:
            raise ModelError("no candidate sentence is in the recogniser's dictionary")
        return cls(tuple(known[:size]))

    def recognise(self, audio: bytes) -> list[str]:
        """Words of the best candidate (a fresh decoder: adaptation must not leak between clips)."""
        beams = {"beam": 1e-150, "pbeam": 1e-150, "wbeam": 1e-120} if self.patient else {}
        decoder = Decoder(samprate=RATE, lm=None, loglevel="FATAL", **beams)
        rules = " | ".join(" ".join(words(text)) for text in self.candidates)
        decoder.add_jsgf_string("closed", f"#JSGF V1.0;\ngrammar closed;\npublic <sentence> = {rules} ;\n")
        decoder.activate_search("closed")
        return _decode(decoder, audio)


def recognise_open(audio: bytes) -> list[str]:
    """Words by the general English language model."""
    return _decode(Decoder(samprate=RATE, loglevel="FATAL"), audio)


@dataclass(frozen=True)
class RecognitionScore:
    """`closed_set_accuracy` over the clips whose text is a candidate; `open_wer` over all words of all clips."""

    clips: int
    closed_set_clips: int
    closed_set_accuracy: float
    open_wer: float


@dataclass(frozen=True)
class Heard:
    """One clip. `chosen`: whether the right candidate was picked, None when its text is not a candidate."""

    words: int
    errors: int
    chosen: bool | None


def listen(text: str, wave: Wave, rate: int, closed: ClosedSet) -> Heard:
    """Let both recognisers hear mono samples of what should be `text`."""
    audio, expected = to_recogniser(wave, rate), words(text)
    chosen = closed.recognise(audio) == expected if text in closed.candidates else None
    return Heard(len(expected), word_errors(expected, recognise_open(audio)), chosen)


def summary(heard: Sequence[Heard]) -> RecognitionScore:
    """Figures over all clips; ModelError without any."""
    if not heard:
        raise ModelError("there are no clips to judge")
    closed = [one.chosen for one in heard if one.chosen is not None]
    return RecognitionScore(
        clips=len(heard),
        closed_set_clips=len(closed),
        closed_set_accuracy=sum(closed) / max(len(closed), 1),
        open_wer=sum(one.errors for one in heard) / max(sum(one.words for one in heard), 1),
    )


def score(clips: Sequence[tuple[str, Wave, int]], closed: ClosedSet) -> RecognitionScore:
    """Score `(text, wave, rate)` clips."""
    return summary([listen(text, wave, rate, closed) for text, wave, rate in clips])
