"""What a seam does to the sound: where one segment of a long text ends and the next begins.

    sled-tts bench seams --count 20

Two sentences are spoken as two segments, as two with the second one going on from the end of the first (`carried`), and
as one segment (`whole`, in which the same place is no seam). `paused` is the first as a server speaks it, with its
pause after a sentence. Silence, level and clicks are measured at the place; the voice by the similarity of the two
sides, where the `quality` extra is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sled_tts.bench.common import finish, introduce, machine, show
from sled_tts.bench.joints import Joint, around, inspect_joint
from sled_tts.model.checkpoint import ModelBundle, load_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.judges import SPEAKER_JUDGES, choose
from sled_tts.model.evaluation.recognition import Wave, arctic_prompts
from sled_tts.server.engine.request import AudioChunk, Failed, WordsSpoken
from sled_tts.server.service import UtteranceOptions
from sled_tts.server.sessions.pauses import Pauses
from sled_tts.server.sessions.rules import SessionRules
from sled_tts.server.sessions.splitting import SplitPlan
from sled_tts.server.settings import Settings
from sled_tts.server.voicebox import Voicebox
from sled_tts.server.wiring import LocalSpeechService

# In one segment, carried over, with the pause that a server makes.
_WAYS = {
    "seam": (False, False, False),
    "carried": (False, True, False),
    "paused": (False, False, True),
    "whole": (True, False, False),
}


@dataclass(frozen=True)
class Spoken:
    """A pair of sentences; sample `at` is the first of the second one's segment, or of its pause when there is one
    segment only."""

    wave: Wave
    rate: int
    at: int


async def say(service: LocalSpeechService, text: str, second: int, options: UtteranceOptions, whole: bool) -> Spoken:
    """`second`: where the second sentence begins in `text`. Raises RuntimeError when there are not as many segments as
    there should be."""
    utterance = service.open_stream(options)
    utterance.append(text)
    utterance.close()
    rate, chunks, sizes, starts = utterance.model.sampling_rate, list[Wave](), dict[int, int](), list[float]()
    async for event in utterance:
        if isinstance(event, AudioChunk):
            chunks.append(event.pcm)
            # The pause after a segment comes when that has ended.
            segment = max(sizes) if utterance.segment is None else utterance.segment
            sizes[segment] = sizes.get(segment, 0) + event.pcm.size
        elif isinstance(event, WordsSpoken):
            starts += [word.start_s for word in event.words if word.begin >= second]
        elif isinstance(event, Failed):
            raise event.error
    if len(sizes) != (1 if whole else 2):
        raise RuntimeError(f"{len(sizes)} segments: {text}")
    wave = np.concatenate(chunks)
    return Spoken(wave, rate, _pause(wave, rate, starts[0]) if whole else sizes[0])


def _pause(wave: Wave, rate: int, word_s: float) -> int:
    """The middle of the quietest 50 ms in the half second around the start of a word."""
    size = round(0.05 * rate)
    begin = max(0, round((word_s - 0.35) * rate))
    energy = np.convolve(wave[begin : round((word_s + 0.15) * rate)].astype(np.float64) ** 2, np.ones(size), "valid")
    return begin + int(energy.argmin()) + size // 2


def pairs(count: int, limit: int, seed: int) -> list[tuple[str, str]]:
    """Sentences that are a segment each, and that fit into one together."""
    shortest = SplitPlan.trained_on(limit).sentence_at + 1
    usable = [t for t in arctic_prompts() if shortest <= len(t) <= limit // 2 - 2 and t.endswith(".")]
    order = np.random.default_rng(seed).permutation(len(usable))
    chosen = [usable[k] for k in order[: 2 * count]]
    return list(zip(chosen[::2], chosen[1::2], strict=False))


def service_for(bundle: ModelBundle, whole: bool, paused: bool) -> LocalSpeechService:
    """`whole`: two sentences that fit into a segment are one; `paused`: with a server's pause."""
    pause_s = Settings.model_fields["sentence_pause_s"].default if paused else 0.0
    limit = bundle.extras.max_segment_chars
    if whole and limit is not None:
        first = SplitPlan.trained_on(limit).sentence_at / limit
        bundle = replace(bundle, extras=replace(bundle.extras, max_segment_chars=round(limit / first)))
    return LocalSpeechService(
        [Voicebox(bundle, slots=1, device="cpu")], sessions=SessionRules(pauses=Pauses.of_sentences(pause_s))
    )


def summary(values: Sequence[float]) -> dict[str, float]:
    found = np.asarray(values)
    return {
        "mean": round(float(found.mean()), 3),
        "p95": round(float(np.percentile(found, 95)), 3),
        "most": round(float(found.max()), 3),
    }


async def measure(bundle: ModelBundle, options: UtteranceOptions, count: int) -> dict[str, Any]:
    limit = bundle.extras.max_segment_chars
    if limit is None:
        raise SystemExit("this checkpoint has no max_segment_chars: its seams are far apart")
    try:
        judge = choose(SPEAKER_JUDGES, "resemblyzer", "speaker")
    except ModelError as error:
        print(f"voices are not compared: {error}", file=sys.stderr)
        judge = None
    texts = pairs(count, limit, options.seed)
    kinds = {(whole, paused) for whole, _, paused in _WAYS.values()}
    services = {kind: service_for(bundle, *kind) for kind in kinds}
    results: dict[str, Any] = {"pairs": len(texts)}
    try:
        for way, (whole, carry, paused) in _WAYS.items():
            joints, alike = list[Joint](), list[float]()
            for number, (first, second) in enumerate(texts):
                asked = replace(options, seed=options.seed + number, carry=carry, timings=True)
                spoken = await say(services[whole, paused], f"{first} {second}", len(first) + 1, asked, whole)
                joints.append(inspect_joint(spoken.wave, spoken.rate, spoken.at))
                if judge is not None:
                    before, after = around(spoken.wave, spoken.rate, spoken.at)
                    alike.append(float(judge.embedding(before, spoken.rate) @ judge.embedding(after, spoken.rate)))
            results[way] = {
                "silence_ms": summary([1000 * joint.silence_s for joint in joints]),
                "level_jump_db": summary([abs(joint.level_jump_db) for joint in joints]),
                "click_db": summary([joint.click_db for joint in joints]),
                "similarity": summary(alike) if alike else None,
                "least_similarity": round(min(alike), 3) if alike else None,
            }
            print(f"{way} done", file=sys.stderr, flush=True)
    finally:
        for service in services.values():
            service.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--voice")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    bundle = load_bundle(given.model)
    about = machine() | {"model": given.model, "voice": given.voice, "seed": given.seed}
    introduce(about)
    results = asyncio.run(measure(bundle, UtteranceOptions(seed=given.seed, voice=given.voice), given.count))
    names = ("silence_ms", "level_jump_db", "click_db", "similarity")
    show(
        "mean (95th percentile) where two sentences meet",
        ["", *names],
        [
            [way, *(f"{cell['mean']:g} ({cell['p95']:g})" if (cell := results[way][name]) else "-" for name in names)]
            for way in _WAYS
        ],
    )
    finish(about, results)


if __name__ == "__main__":
    main()
