"""How right word timings are: against a forced aligner, sentence by sentence, beside an even spread over the audio.

    python -m sled_tts.bench.timings --count 30

Needs the `eval` extra (pocketsphinx). The aligner is itself no truth: it errs by a frame or two, more on a voice that
it was not made for.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from pocketsphinx import Decoder

from sled_tts.bench.common import finish, introduce, machine, show
from sled_tts.model.evaluation.recognition import RATE, arctic_prompts, to_recogniser
from sled_tts.server.engine.request import AudioChunk, Failed, Float32, WordsSpoken, WordTiming
from sled_tts.server.service import UtteranceOptions
from sled_tts.server.sessions.timings import Word
from sled_tts.server.wiring import LocalSpeechService, load_service

_EDGE_S = 0.1
_ALIGNER_HZ = 100


def spelled(text: str) -> str:
    return re.sub(r"[^a-z']", "", text.lower().replace("’", "'"))


def align(aligner: Decoder, wave: Float32, rate: int, words: Sequence[str]) -> list[float] | None:
    """Where each word begins, in seconds; None when the aligner does not get to the end."""
    aligner.set_align_text(" ".join(words))
    aligner.start_utt()
    aligner.process_raw(to_recogniser(wave, rate), full_utt=True)
    aligner.end_utt()
    found = [s for s in aligner.seg() or () if not s.word.startswith(("<", "[", "("))]
    if [re.sub(r"\(\d+\)$", "", s.word) for s in found] != list(words):
        return None
    return [s.start_frame / _ALIGNER_HZ - _EDGE_S for s in found]


def even(words: Sequence[WordTiming], length_s: float) -> list[float]:
    """Starts if every character took the same time."""
    sizes = [len(word.text) + 1 for word in words]
    return [length_s * before / sum(sizes) for before in np.cumsum([0, *sizes[:-1]])]


async def say(service: LocalSpeechService, text: str, seed: int) -> tuple[Float32, list[WordTiming], int, float]:
    """Audio, timings, how many words came after audio that holds their start, seconds spent."""
    began = time.perf_counter()
    utterance = service.open_stream(UtteranceOptions(seed=seed, timings=True))
    utterance.append(text)
    utterance.close()
    chunks, words, late = list[Float32](), list[WordTiming](), 0
    rate = utterance.model.sampling_rate
    async for event in utterance:
        if isinstance(event, AudioChunk):
            chunks.append(event.pcm)
        elif isinstance(event, WordsSpoken):
            heard_s = sum(c.size for c in chunks) / rate
            late += sum(word.start_s < heard_s - 1e-6 for word in event.words)
            words += event.words
        elif isinstance(event, Failed):
            raise event.error
    return np.concatenate(chunks), words, late, time.perf_counter() - began


def summary(errors: Sequence[float]) -> dict[str, float]:
    sizes = np.abs(np.asarray(errors))
    return {
        "mean_ms": round(1000 * float(sizes.mean()), 1),
        "p50_ms": round(1000 * float(np.percentile(sizes, 50)), 1),
        "p95_ms": round(1000 * float(np.percentile(sizes, 95)), 1),
        "bias_ms": round(1000 * float(np.mean(errors)), 1),
    }


async def measure(service: LocalSpeechService, first: int, count: int, seed: int) -> dict[str, Any]:
    lookup = Decoder(samprate=RATE, loglevel="FATAL")
    aligner = Decoder(samprate=RATE, loglevel="FATAL", lm=None)
    known = [t for t in arctic_prompts() if all(lookup.lookup_word(spelled(w)) for w in t.split())]
    texts = known[first : first + count]
    paces = list[float]()
    ours, spread, late, words_seen, unaligned = list[float](), list[float](), 0, 0, 0
    for number, text in enumerate(texts):
        wave, words, behind, _ = await say(service, text, seed + number)
        rate = service.models[0].sampling_rate
        paces.append(wave.size / rate / sum(Word(w.text, 0, 0).units for w in words))
        starts = align(aligner, wave, rate, [spelled(word.text) for word in words])
        late, words_seen = late + behind, words_seen + len(words)
        if starts is None:
            unaligned += 1
            continue
        ours += [word.start_s - start for word, start in zip(words, starts, strict=True)]
        spread += [a - b for a, b in zip(even(words, wave.size / rate), starts, strict=True)]
    return {
        "sentences": len(texts),
        "not_aligned": unaligned,
        "speech_unit_s": round(float(np.median(paces)), 4),
        "words": len(ours),
        "told_late": late,
        "words_told": words_seen,
        "streamed": summary(ours),
        "even_spread_afterwards": summary(spread),
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
    about = machine() | {"model": given.model, "first": given.first, "count": given.count, "seed": given.seed}
    introduce(about)
    try:
        results = asyncio.run(measure(service, given.first, given.count, given.seed))
    finally:
        service.close()
    columns = ["streamed", "even_spread_afterwards"]
    show(
        "Start of words against a forced aligner",
        ["", *columns],
        [[name, *(f"{results[c][name]:g}" for c in columns)] for name in results["streamed"]],
    )
    finish(about, results)


if __name__ == "__main__":
    main()
