"""A slow writer: does the voice wait without inventing anything, and go on as if nothing had been?

    sled-tts bench pauses --count 8 --pause 2

Each sentence is streamed at once, and again with pauses: inside a word, after a word, and after a comma or a few words
more. While text is missing no sound may come beyond what the text so far allows; in the end every sample has to be that
of the sentence that came at once (so whoever hears it hears the same). JSON last; exit code 1 when either fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sled_tts.bench.common import finish, introduce, machine
from sled_tts.model.evaluation.recognition import Wave, arctic_prompts
from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished, TextStarved
from sled_tts.server.service import Utterance, UtteranceOptions
from sled_tts.server.wiring import LocalSpeechService, load_service

# On a busy machine what is due may take a while.
_LONGEST_STEP_S = 30.0


@dataclass
class Listening:
    """What one utterance has said. `starved` is set while it waits for text."""

    events: list[Event] = field(default_factory=list)
    starved: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, utterance: Utterance) -> None:
        async for event in utterance:
            self.events.append(event)
            if isinstance(event, TextStarved | Finished | Failed):
                self.starved.set()

    @property
    def chunks(self) -> list[Wave]:
        return [event.pcm for event in self.events if isinstance(event, AudioChunk)]

    @property
    def wave(self) -> Wave:
        return np.concatenate(self.chunks) if self.chunks else np.zeros(0, np.float32)


@dataclass(frozen=True)
class Pause:
    """What happened while text was missing after `given` characters: seconds of sound so far, chunks that came in the
    pause, whether the voice said that it waits."""

    given: int
    spoken_s: float
    chunks: int
    starved: bool


def breaks(text: str) -> list[int]:
    """Where the writer stops: in the middle of a word, after a word, after most of the sentence."""
    words = text.split()
    ends = np.cumsum([len(word) + 1 for word in words])
    inside = next(k for k in range(1, len(words)) if len(words[k]) > 3)
    places = [int(ends[inside - 1]) + len(words[inside]) // 2, int(ends[len(words) // 2]), int(ends[-2])]
    return sorted(set(places))


async def say(
    service: LocalSpeechService, text: str, cuts: Sequence[int], pause_s: float, seed: int
) -> tuple[Wave, list[Pause]]:
    """Stream `text`, waiting `pause_s` at each of `cuts` once all that may be said has been said."""
    utterance = service.open_stream(UtteranceOptions(seed=seed))
    heard, pauses, at = Listening(), list[Pause](), 0
    following = asyncio.create_task(heard.follow(utterance))
    for cut in cuts:
        heard.starved.clear()
        utterance.append(text[at:cut])
        at = cut
        # A voice that has not spoken yet does not say that it waits: too little text for a single turn.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard.starved.wait(), pause_s + _LONGEST_STEP_S)
        before = len(heard.chunks)
        await asyncio.sleep(pause_s)
        spoken_s = heard.wave.size / utterance.model.sampling_rate
        pauses.append(Pause(cut, spoken_s, len(heard.chunks) - before, heard.starved.is_set()))
    utterance.append(text[at:])
    utterance.close()
    await following
    end = heard.events[-1]
    if isinstance(end, Failed):
        raise end.error
    return heard.wave, pauses


async def measure(service: LocalSpeechService, count: int, pause_s: float, seed: int) -> dict[str, Any]:
    texts = [t for t in arctic_prompts() if len(t.split()) > 6][:count]
    model = service.models[0]
    frame_s = model.hop / model.sampling_rate
    equal, pauses, allowed = 0, list[Pause](), list[float]()
    for number, text in enumerate(texts):
        at_once, _ = await say(service, text, (), 0.0, seed + number)
        slowly, found = await say(service, text, breaks(text), pause_s, seed + number)
        equal += bool(np.array_equal(at_once, slowly))
        pauses += found
        # A character is a token at most; before the first comes `<s>` or the space after a prompt, and `</s>` has not
        # been read. A turn speaks m frames for n tokens.
        turns = [(pause.given + 1) // (model.n or 1) for pause in found]
        allowed += [turn * (model.m or 0) * frame_s for turn in turns]
        print(f"{number + 1} of {len(texts)}: {'equal' if equal == number + 1 else 'DIFFERENT'}", file=sys.stderr)
    beyond = sum(pause.spoken_s > most + 1e-6 for pause, most in zip(pauses, allowed, strict=True))
    return {
        "sentences": len(texts),
        "same_samples": equal,
        "pauses": len(pauses),
        "waited_for": sum(pause.starved for pause in pauses),
        "chunks_in_pauses": sum(pause.chunks for pause in pauses),
        "beyond_the_text": beyond,
        "spoken_of_allowed": round(sum(p.spoken_s for p in pauses) / max(sum(allowed), 1e-9), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--pause", type=float, default=2.0, help="Seconds without text.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    service = load_service([given.model], slots=1, threads=given.threads)
    about = machine() | {"model": given.model, "pause_s": given.pause, "seed": given.seed}
    introduce(about)
    try:
        results = asyncio.run(measure(service, given.count, given.pause, given.seed))
    finally:
        service.close()
    for name, value in results.items():
        print(f"{name:20} {value}")
    finish(about, results)
    wrong = results["same_samples"] != results["sentences"] or results["chunks_in_pauses"] or results["beyond_the_text"]
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
