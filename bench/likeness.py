"""Does a cloned voice sound more like its recording than like any other voice? Streaming mode, several readers.

    sled-tts bench likeness --cuts cuts_train.jsonl cuts_dev.jsonl --readers 6 --sentences 3

`--cuts` is a manifest of lhotse MonoCuts with speakers (audio paths relative to it). One recording of each reader is
added to a live catalogue of voices as an upload would be, sentences are streamed with it, and their speaker embeddings
(resemblyzer, the `quality` extra) are compared with the reader's recording, with those of the other readers and with
the checkpoint's own voices. `recordings` compares with the recordings as they were given; `unheard` with the mean of
others of the same readers, which nothing has heard; `prompts` with what the checkpoint makes of the given ones before
it imitates them (its codec, and its melody if it has one). `--listen` counts
the words that an open recogniser gets wrong (pocketsphinx, the `eval` extra): a voice can be alike and say nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from sled_tts.bench.common import finish, introduce, machine, show
from sled_tts.model.checkpoint import ModelBundle, load_bundle
from sled_tts.model.evaluation.judges import SPEAKER_JUDGES, SpeakerJudge, choose
from sled_tts.model.evaluation.naturalness import voice_embeddings
from sled_tts.model.evaluation.recognition import (
    Wave,
    arctic_prompts,
    recognise_open,
    to_recogniser,
    word_errors,
    words,
)
from sled_tts.model.speaking import sound_of
from sled_tts.server.engine.request import AudioChunk, Failed
from sled_tts.server.service import NewVoice, Reference, UtteranceOptions
from sled_tts.server.voicebox import Voicebox
from sled_tts.server.voices.folder import VoiceFolder
from sled_tts.server.wiring import LocalSpeechService

# Further recordings of each reader, at most.
_UNHEARD = 3


@dataclass(frozen=True)
class Recording:
    """One reader's: mono samples, and what is said. `unheard`: others of theirs, at the same rate."""

    reader: str
    text: str
    wave: Wave
    rate: int
    unheard: tuple[Wave, ...] = field(default=(), repr=False)

    def upload(self) -> bytes:
        held = io.BytesIO()
        soundfile.write(held, self.wave, self.rate, format="FLAC")
        return held.getvalue()


def recordings(
    manifest: Path, readers: int, skip: Sequence[str], shortest_s: float, longest_s: float
) -> list[Recording]:
    """The first recording of a usable length of each reader but those to `skip` and those with one alone, in the
    manifest's order, with the next ones of a usable length."""
    cuts: dict[str, list[Any]] = {}
    for line in manifest.read_text(encoding="utf-8").splitlines():
        cut = json.loads(line)
        speaker = cut["supervisions"][0]["speaker"]
        if speaker not in skip and shortest_s <= cut["duration"] <= longest_s:
            cuts.setdefault(speaker, []).append(cut)
    found = []
    several = [(speaker, usable) for speaker, usable in cuts.items() if len(usable) > 1]
    for speaker, (first, *rest) in several[:readers]:
        wave, rate = _read(manifest.parent, first)
        unheard = tuple(_read(manifest.parent, cut)[0] for cut in rest[:_UNHEARD])
        found.append(Recording(speaker, first["supervisions"][0]["text"], wave, rate, unheard))
    return found


def _read(folder: Path, cut: Any) -> tuple[Wave, int]:
    path = folder / cut["recording"]["sources"][0]["source"]
    rate = soundfile.info(path).samplerate
    first = round(cut["start"] * rate)
    wave, _ = soundfile.read(
        path, start=first, stop=first + round(cut["duration"] * rate), dtype="float32", always_2d=True
    )
    return wave.mean(axis=1), rate


async def stream(service: LocalSpeechService, text: str, options: UtteranceOptions) -> Wave:
    """Word by word, as it would come."""
    utterance = service.open_stream(options)
    for word in text.split():
        utterance.append(f"{word} ")
    utterance.close()
    chunks = list[Wave]()
    async for event in utterance:
        if isinstance(event, AudioChunk):
            chunks.append(event.pcm)
        elif isinstance(event, Failed):
            raise event.error
    return np.concatenate(chunks)


@dataclass(frozen=True)
class Heard:
    """Embeddings: `clips [K, E]` of what a cloned voice said; `own [E]`, `others [V, E]` of whom it may be like."""

    clips: Wave
    own: Wave
    others: Wave

    @property
    def likeness(self) -> float:
        return float((self.clips @ self.own).mean())

    @property
    def nearest(self) -> float:
        """Mean similarity to the one other voice that is most like it."""
        return float((self.clips @ self.others.T).mean(axis=0).max())

    @property
    def clips_told(self) -> int:
        """Clips that are more like their own voice than like each other one."""
        return int(((self.clips @ self.own) > (self.clips @ self.others.T).max(axis=1)).sum())


def figures(heard: Sequence[Heard]) -> dict[str, Any]:
    margins = [one.likeness - one.nearest for one in heard]
    return {
        "similarity": round(float(np.mean([one.likeness for one in heard])), 3),
        "nearest_other": round(float(np.mean([one.nearest for one in heard])), 3),
        "margin": round(float(np.mean(margins)), 3),
        "least_margin": round(min(margins), 3),
        "voices_nearest_their_own": f"{sum(margin > 0 for margin in margins)} of {len(margins)}",
        "clips_nearest_their_own": f"{sum(h.clips_told for h in heard)} of {sum(len(h.clips) for h in heard)}",
    }


async def measure(bundle: ModelBundle, given: Sequence[Recording], options: argparse.Namespace) -> dict[str, Any]:
    judge = choose(SPEAKER_JUDGES, "resemblyzer", "speaker")
    texts = arctic_prompts()[: options.sentences]
    own_voices = voice_embeddings(bundle, judge)
    with tempfile.TemporaryDirectory() as folder:
        box = Voicebox(bundle, slots=1, device="cpu")
        service = LocalSpeechService([box], VoiceFolder(Path(folder)))
        try:
            return await _compare(service, box, judge, given, own_voices, texts, options)
        finally:
            service.close()


async def _compare(
    service: LocalSpeechService,
    box: Voicebox,
    judge: SpeakerJudge,
    given: Sequence[Recording],
    own_voices: dict[str, Wave],
    texts: Sequence[str],
    options: argparse.Namespace,
) -> dict[str, Any]:
    bundle = box.bundle
    rate = bundle.codec.config.sampling_rate
    clips, raw, unheard, prompts = list[Wave](), list[Wave](), list[Wave](), list[Wave]()
    wrong = spoken = 0
    for number, one in enumerate(given):
        new = NewVoice(one.reader, one.upload(), one.text, "a public corpus")
        voice = await asyncio.to_thread(service.voices.add, new)
        prompt = box.hearing.heard(Reference(one.wave, one.rate, one.text))
        raw.append(judge.embedding(one.wave, one.rate))
        further = np.mean([judge.embedding(wave, one.rate) for wave in one.unheard], axis=0)
        unheard.append(further / np.linalg.norm(further))
        prompts.append(judge.embedding(sound_of(bundle, torch.tensor(prompt.latents), prompt.register), rate))
        said = list[Wave]()
        for k, text in enumerate(texts):
            seed = options.seed + 1000 * number + k
            asked = UtteranceOptions(seed=seed, voice=voice.id, cfg_scale=options.cfg_scale)
            wave = await stream(service, text, asked)
            said.append(judge.embedding(wave, rate))
            if options.listen:
                wrong += word_errors(words(text), recognise_open(to_recogniser(wave, rate)))
                spoken += len(words(text))
        clips.append(np.stack(said))
        print(
            f"{one.reader}: {(clips[-1] @ raw[-1]).mean():.3f} {(clips[-1] @ prompts[-1]).mean():.3f}", file=sys.stderr
        )
    shipped = list(own_voices.values())
    results: dict[str, Any] = {"readers": len(given), "clips": sum(map(len, clips))}
    if options.listen:
        results["open_wer"] = round(wrong / spoken, 3)
    for name, known in (("recordings", raw), ("unheard", unheard), ("prompts", prompts)):
        heard = [
            Heard(clips[k], known[k], np.stack([*known[:k], *known[k + 1 :], *shipped])) for k in range(len(given))
        ]
        results[name] = figures(heard)
        results[name]["by_reader"] = {
            one.reader: [round(h.likeness, 3), round(h.likeness - h.nearest, 3)]
            for one, h in zip(given, heard, strict=True)
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="built-in")
    parser.add_argument("--cuts", type=Path, nargs="+", required=True)
    parser.add_argument("--readers", type=int, default=8, help="Of each manifest.")
    parser.add_argument("--skip", nargs="*", default=[], help="Readers that the checkpoint's own voices are.")
    parser.add_argument("--sentences", type=int, default=4)
    parser.add_argument("--shortest", type=float, default=3.0, help="Seconds of a recording.")
    parser.add_argument("--longest", type=float, default=8.0, help="Seconds of a recording.")
    parser.add_argument("--cfg-scale", type=float, help="By default as the checkpoint speaks in cloned voices.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--listen", action="store_true", help="Count the words that are not understood.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bundle = load_bundle(options.model)
    given = [
        one
        for manifest in options.cuts
        for one in recordings(manifest, options.readers, options.skip, options.shortest, options.longest)
    ]
    about = machine() | {name: getattr(options, name) for name in ("model", "cfg_scale", "shortest", "longest", "seed")}
    introduce(about)
    results = asyncio.run(measure(bundle, given, options))
    ways = ("recordings", "unheard", "prompts")
    show(
        "cloned voices against what they were cloned from",
        ["", *results[ways[0]].keys()][:-1],
        [[way, *(str(value) for name, value in results[way].items() if name != "by_reader")] for way in ways],
    )
    if options.listen:
        print(f"open WER {results['open_wer']:.1%}")
    finish(about, results)


if __name__ == "__main__":
    main()
