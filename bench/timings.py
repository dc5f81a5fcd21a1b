"""How right word timings are: against a forced aligner, sentence by sentence, on the same audio in three ways.

    sled-tts bench timings --count 30

`attention` are the times a server tells for a checkpoint that names its alignment heads; `sound` those it would tell
without, from pauses and the length of words; `even` spreads a sentence over its audio by characters, afterwards. Needs
the `eval` extra (pocketsphinx). The aligner is itself no truth: it errs by a frame or two, more on a voice that it was
not made for.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sled_tts.bench.common import finish, introduce, machine, show
from sled_tts.model.checkpoint import ModelExtras, load_bundle
from sled_tts.model.evaluation.recognition import arctic_prompts, to_recogniser
from sled_tts.model.training.alignment import Aligner, spoken_words
from sled_tts.server.engine.request import AudioChunk, Failed, Float32, WordsSpoken, WordTiming
from sled_tts.server.service import UtteranceOptions
from sled_tts.server.sessions.timings import Pace, Word, WordAligner
from sled_tts.server.wiring import LocalSpeechService, load_service

_EDGE_S = 0.1


def even(words: Sequence[WordTiming], length_s: float) -> list[float]:
    """Starts if every character took the same time."""
    sizes = [len(word.text) + 1 for word in words]
    return [length_s * before / sum(sizes) for before in np.cumsum([0, *sizes[:-1]])]


@dataclass(frozen=True)
class Said:
    """A sentence as it was streamed: its chunks, the words told and when, and how many of them came after audio that
    holds their start."""

    chunks: list[Float32]
    rate: int
    words: list[WordTiming]
    late: int

    @property
    def wave(self) -> Float32:
        return np.concatenate(self.chunks)


async def say(service: LocalSpeechService, text: str, seed: int) -> Said:
    utterance = service.open_stream(UtteranceOptions(seed=seed, timings=True))
    utterance.append(text)
    utterance.close()
    said = Said([], utterance.model.sampling_rate, [], 0)
    late, heard = 0, 0
    async for event in utterance:
        if isinstance(event, AudioChunk):
            said.chunks.append(event.pcm)
            heard += event.pcm.size
        elif isinstance(event, WordsSpoken):
            late += sum(word.start_s < heard / said.rate - 1e-6 for word in event.words)
            said.words.extend(event.words)
        elif isinstance(event, Failed):
            raise event.error
    return replace(said, late=late)


def by_sound(said: Said, unit_s: float) -> tuple[list[WordTiming], int]:
    """What a server tells of the same audio when it does not know where the network looks, and how much of it late."""
    aligner = WordAligner(said.rate, Pace(unit_s))
    for word in said.words:
        aligner.add(Word(word.text, word.begin, word.end), 0)
    late, heard = 0, 0
    for chunk in said.chunks:
        told = aligner.hear(AudioChunk(0, chunk, 0, 0.0))
        late += sum(word.start_s < heard / said.rate - 1e-6 for word in told)
        heard += chunk.size
    aligner.finish()
    return aligner.told, late


def summary(errors: Sequence[float]) -> dict[str, float]:
    sizes = np.abs(np.asarray(errors))
    return {
        "mean_ms": round(1000 * float(sizes.mean()), 1),
        "p50_ms": round(1000 * float(np.percentile(sizes, 50)), 1),
        "p95_ms": round(1000 * float(np.percentile(sizes, 95)), 1),
        "bias_ms": round(1000 * float(np.mean(errors)), 1),
    }


@dataclass
class Errors:
    """Seconds by which each way is behind the aligner, for starts and for ends; how many words were told late."""

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    late: int = 0

    def add(self, told: Sequence[tuple[float, float]], true: Sequence[tuple[float, float]]) -> None:
        self.starts += [ours[0] - theirs[0] for ours, theirs in zip(told, true, strict=True)]
        self.ends += [ours[1] - theirs[1] for ours, theirs in zip(told, true, strict=True)]

    def report(self) -> dict[str, Any]:
        return {"starts": summary(self.starts), "ends": summary(self.ends), "told_late": self.late}


async def measure(
    service: LocalSpeechService, extras: ModelExtras, first: int, count: int, seed: int
) -> dict[str, Any]:
    aligner = Aligner.create()
    texts = [
        text
        for text in arctic_prompts()
        if len(text) <= (extras.max_segment_chars or len(text))
        and len(spoken_words(text)) == len(text.split())
        and all(aligner.decoder.lookup_word(word) is not None for word in spoken_words(text))
    ][first : first + count]
    ways = {"attention": Errors(), "sound": Errors(), "even": Errors()}
    paces, told, aligned = list[float](), 0, 0
    for number, text in enumerate(texts):
        said = await say(service, text, seed + number)
        told += len(said.words)
        length_s = said.wave.size / said.rate
        paces.append(length_s / sum(Word(w.text, 0, 0).units for w in said.words))
        estimated, late = by_sound(said, extras.speech_unit_s)
        ways["attention"].late += said.late
        ways["sound"].late += late
        found = aligner.align(np.frombuffer(to_recogniser(said.wave, said.rate), np.int16), text)
        if found is None or len(found.words) != len(said.words):
            continue
        aligned += 1
        true = [(start - _EDGE_S, end - _EDGE_S) for _, start, end in found.words]
        spread = even(said.words, length_s)
        ways["attention"].add([(w.start_s, w.end_s) for w in said.words], true)
        ways["sound"].add([(w.start_s, w.end_s) for w in estimated], true)
        ways["even"].add(list(zip(spread, [*spread[1:], length_s], strict=True)), true)
    return {
        "sentences": len(texts),
        "aligned": aligned,
        "words": len(ways["even"].starts),
        "words_told": told,
        "speech_unit_s": round(float(np.median(paces)), 4),
        **{name: errors.report() for name, errors in ways.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    service = load_service([given.model], slots=1, threads=given.threads)
    extras = load_bundle(given.model).extras
    if extras.alignment is None:
        raise SystemExit("the checkpoint names no heads: python -m sled_tts.model.training.alignment_heads finds them")
    about = machine() | {"model": given.model, "first": given.first, "count": given.count, "seed": given.seed}
    introduce(about)
    try:
        results = asyncio.run(measure(service, extras, given.first, given.count, given.seed))
    finally:
        service.close()
    ways = ("attention", "sound", "even")
    for what in ("starts", "ends"):
        show(
            f"{what} of words against a forced aligner, ms",
            ["", "mean", "median", "95 %", "bias", "told late"],
            [[way, *(f"{v:g}" for v in results[way][what].values()), str(results[way]["told_late"])] for way in ways],
        )
    finish(about, results)


if __name__ == "__main__":
    main()
