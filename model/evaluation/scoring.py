"""Clips of speech, and what a panel of judges says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sled_tts.model.evaluation.judges import QualityJudge, SpeakerJudge, Transcriber, Wave
from sled_tts.model.evaluation.page import Column
from sled_tts.model.evaluation.spelling import word_errors, words

_ROW_KEYS = {
    "pocketsphinx": "wer_open", "conformer-transducer": "wer_c", "hubert": "wer_h",
    "resemblyzer": "sim_resemblyzer", "wavlm-tdnn": "sim",
}  # fmt: skip

# Judges of voices and quality cannot hear less.
_LEAST_S = 0.25
_LOWEST = {"p808": 1.0, "ovrl": 1.0}

SCORE_COLUMNS = (
    Column("clips", "clips", "d"),
    Column("wer_c", "WER-C", ".2%"),
    Column("wer_h", "WER-H", ".2%"),
    Column("wer_open", "WER (pocketsphinx)", ".1%"),
    Column("sim", "SIM", ".3f"),
    Column("sim_resemblyzer", "SIM (resemblyzer)", ".3f"),
    Column("dnsmos", "DNSMOS P.808", ".2f"),
    Column("ovrl", "OVRL", ".2f"),
    Column("cut", "cut off", "d"),
)


def measured(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns that say how good the speech of these rows is: what there is to draw."""
    counts = ("clips", "cut")
    return [c for c in SCORE_COLUMNS if c.key not in counts and any(row.get(c.key) is not None for row in rows)]


@dataclass(frozen=True)
class Clip:
    """`heard`: where the words of `text` are, `voice`: whose voice is compared with that in `prompt`; all at `rate`."""

    text: str
    heard: Wave
    voice: Wave
    rate: int
    prompt: Wave | None = None
    cut: bool = False


@dataclass(frozen=True)
class Panel:
    """Judges of one evaluation; any of them may be missing."""

    transcribers: Sequence[Transcriber] = ()
    speaker: SpeakerJudge | None = None
    quality: QualityJudge | None = None
    _heard: dict[tuple[str, int, bytes], list[str]] = field(default_factory=dict, repr=False)

    def score(self, clips: Sequence[Clip]) -> dict[str, Any]:
        """A row for a table: word error rates over all words of all clips, means of the rest. A clip too short to be
        heard has all its words wrong and the lowest opinion scores; its voice is left out."""
        row: dict[str, Any] = {"clips": len(clips), "cut": sum(clip.cut for clip in clips)}
        for transcriber in self.transcribers:
            wrong = sum(word_errors(words(clip.text), self._words(transcriber, clip)) for clip in clips)
            row[_ROW_KEYS.get(transcriber.name, transcriber.name)] = wrong / sum(len(words(c.text)) for c in clips)
        if self.speaker is not None:
            alike = [
                float(self.speaker.embedding(clip.voice, clip.rate) @ self.speaker.embedding(clip.prompt, clip.rate))
                for clip in clips
                if clip.prompt is not None and _audible(clip.voice, clip.rate)
            ]
            row[_ROW_KEYS.get(self.speaker.name, self.speaker.name)] = float(np.mean(alike)) if alike else None
        if self.quality is not None:
            scores = [_scores(self.quality, clip) for clip in clips]
            row["dnsmos"] = float(np.mean([one["p808"] for one in scores]))
            row["ovrl"] = float(np.mean([one["ovrl"] for one in scores]))
        return row

    def _words(self, transcriber: Transcriber, clip: Clip) -> list[str]:
        """Recognition is slow, and a recording may stand in several rows."""
        if not _audible(clip.heard, clip.rate):
            return []
        key = (transcriber.name, clip.rate, clip.heard.tobytes())
        if key not in self._heard:
            self._heard[key] = transcriber.words(clip.heard, clip.rate)
        return self._heard[key]


def _audible(wave: Wave, rate: int) -> bool:
    return len(wave) >= _LEAST_S * rate


def _scores(quality: QualityJudge, clip: Clip) -> Mapping[str, float]:
    return quality.scores(clip.voice, clip.rate) if _audible(clip.voice, clip.rate) else _LOWEST
