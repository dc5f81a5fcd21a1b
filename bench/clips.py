"""Was every sentence of a long recording said once and in order? Clips judged one by one by a closed set of sentences.

A recogniser that may choose among a sentence, its neighbours and some others tells a lost or a repeated sentence from
one that is merely mumbled: the first two sound like another place of the text or like two sentences, the third at
worst like anything.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from pocketsphinx import Decoder

from sled_tts.model.evaluation.recognition import RATE, Wave, to_recogniser, words

_NEIGHBOURS, _OTHERS = 3, 12
_PLANTED = 20
# Of the usual time a letter takes.
_ODD = (0.4, 2.5)


class Verdict(StrEnum):
    """`once`: heard as itself; `unclear`: as one sentence from elsewhere; `shifted`: as a neighbour; `twice`: as two
    sentences, itself or a neighbour among them."""

    ONCE = "once"
    UNCLEAR = "unclear"
    SHIFTED = "shifted"
    TWICE = "twice"

    @property
    def suspicious(self) -> bool:
        return self in (Verdict.SHIFTED, Verdict.TWICE)


@dataclass
class Judge:
    """`sentences` are the text's, in order, all of whose words the recogniser knows; `seed` draws the others."""

    sentences: Sequence[str]
    seed: int = 0
    _decoder: Decoder = field(init=False, repr=False)
    _spelled: list[tuple[str, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Normalised over each clip by itself, so that one decoder serves all of them.
        self._decoder = Decoder(samprate=RATE, lm=None, cmn="batch", loglevel="FATAL")
        self._spelled = [tuple(words(sentence)) for sentence in self.sentences]

    def near(self, place: int) -> range:
        return range(max(0, place - _NEIGHBOURS), min(len(self.sentences), place + _NEIGHBOURS + 1))

    def hear(self, clip: Wave, rate: int, place: int) -> Verdict:
        """What `clip` sounds like that should be sentence `place`."""
        near = self.near(place)
        far = [k for k in range(len(self.sentences)) if k not in near]
        others = random.Random(self.seed + place).sample(far, min(_OTHERS, len(far)))
        candidates = list(dict.fromkeys(self._spelled[k] for k in (*near, *others)))
        heard = tuple(self._recognise(to_recogniser(clip, rate), candidates))
        own, close = self._spelled[place], {self._spelled[k] for k in near}
        if heard == own:
            return Verdict.ONCE
        if heard in candidates:
            return Verdict.SHIFTED if heard in close else Verdict.UNCLEAR
        pairs = ((a, b) for a in candidates for b in candidates if a + b == heard)
        first, second = next(pairs, ((), ()))
        return Verdict.TWICE if first in close or second in close else Verdict.UNCLEAR

    def _recognise(self, audio: bytes, candidates: Sequence[tuple[str, ...]]) -> list[str]:
        choices = " | ".join(" ".join(spelled) for spelled in candidates)
        grammar = f"#JSGF V1.0;\ngrammar near;\n<one> = {choices} ;\npublic <said> = <one> | <one> <one> ;\n"
        self._decoder.add_jsgf_string("near", grammar)
        self._decoder.activate_search("near")
        self._decoder.start_utt()
        self._decoder.process_raw(audio, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr.split() if hypothesis is not None else []


def speakable(texts: Sequence[str]) -> list[str]:
    """Those all of whose words the recogniser's dictionary has."""
    lookup = Decoder(samprate=RATE, lm=None, loglevel="FATAL")
    return [text for text in dict.fromkeys(texts) if words(text) and all(map(lookup.lookup_word, words(text)))]


@dataclass(frozen=True)
class Cut:
    """A recording `wave` at `rate` Hz cut where sentences begin, `starts_s`; what is before the first is left out."""

    wave: Wave
    rate: int
    starts_s: Sequence[float]

    def clip(self, place: int) -> Wave:
        last = place + 1 == len(self.starts_s)
        begin = max(0, round((self.starts_s[place] - 0.05) * self.rate))
        end = len(self.wave) if last else round((self.starts_s[place + 1] - 0.02) * self.rate)
        return self.wave[begin : max(begin, end)]


def planted(judge: Judge, cut: Cut, places: Sequence[int]) -> dict[str, str]:
    """How many faults the judge finds that are put in on purpose: sentences with the next one's sound in their place
    (what a lost one looks like), and said twice."""
    usable = [place for place in places if place + 1 < len(cut.starts_s)]
    lost = sum(judge.hear(cut.clip(k + 1), cut.rate, k).suspicious for k in usable)
    doubled = (np.concatenate([cut.clip(k), cut.clip(k)]) for k in usable)
    twice = sum(judge.hear(wave, cut.rate, k).suspicious for k, wave in zip(usable, doubled, strict=True))
    return {"lost_found": f"{lost} of {len(usable)}", "repeated_found": f"{twice} of {len(usable)}"}


def judge_all(sentences: Sequence[str], cut: Cut, seed: int) -> dict[str, Any]:
    """Every sentence of `cut`; those that sound lost or repeated, or last oddly long or short, are listed."""
    judge = Judge(sentences, seed)
    sentences = sentences[: len(cut.starts_s)]
    pace = [len(cut.clip(k)) / cut.rate / len(sentence) for k, sentence in enumerate(sentences)]
    usual = float(np.median(pace))
    counts, suspects, clear = dict.fromkeys(Verdict, 0), list[str](), list[int]()
    for place, sentence in enumerate(sentences):
        verdict = judge.hear(cut.clip(place), cut.rate, place)
        counts[verdict] += 1
        odd = not _ODD[0] < pace[place] / usual < _ODD[1]
        if verdict is Verdict.ONCE and not odd:
            clear.append(place)
        elif verdict.suspicious or odd:
            suspects.append(f"{place} {verdict}{' of an odd length' if odd else ''}: {sentence}")
        if place % 50 == 49:
            print(json.dumps({"judged": place + 1} | counts), file=sys.stderr, flush=True)
    chosen = clear[:: max(1, len(clear) // _PLANTED)][:_PLANTED]
    return {
        "sentences": len(sentences),
        **{str(verdict): count for verdict, count in counts.items()},
        "lost_or_repeated": len(suspects),
        "suspects": suspects,
        "planted": planted(judge, cut, chosen),
    }
