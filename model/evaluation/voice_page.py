"""The page about a checkpoint's voices: understood, liked, recognised, and how often they fail.

Its parts are independent, so they run in processes of their own, each of which loads the checkpoint.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from sled_tts.model.checkpoint import ModelBundle, load_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.drawing import Drawing, Panel
from sled_tts.model.evaluation.failures import FAILURE_COLUMNS, Outcome, outcomes, tally
from sled_tts.model.evaluation.judges import QUALITY_JUDGES, SPEAKER_JUDGES, Wave, choose
from sled_tts.model.evaluation.naturalness import Clip, margin, opinion, voice_embeddings
from sled_tts.model.evaluation.page import Column, Page
from sled_tts.model.evaluation.prompting import through_codec
from sled_tts.model.evaluation.sentences import arctic_prompts, new_sentences
from sled_tts.model.evaluation.utterances import Utterance
from sled_tts.model.references import as_known
from sled_tts.model.speaking import lines_in, speak_lines

_CANDIDATES = 300
# A process takes this many sentences at a time, so that the last ones do not wait for one process.
_PART = 250

_COLUMNS = (
    Column("voice", "voice"),
    Column("speech", "speech"),
    Column("clips", "clips", "d"),
    Column("closed_set", "right sentence of 300", ".1%"),
    Column("wer_open", "open WER", ".1%"),
    Column("p808", "P.808", ".2f"),
    Column("ovrl", "OVRL", ".2f"),
    Column("similarity", "similarity to its prompt", ".2f"),
    Column("margin", "over the nearest other voice", ".2f"),
    Column("cut", "not finished", "d"),
)


class Recorded(StrEnum):
    """A reader's recordings: as they are, as the checkpoint knows speech, and that through the codec."""

    PLAIN = "recordings"
    RESPOKEN = "recordings at a constant pitch"
    RESYNTHESISED = "recordings through the codec"

    def change(self, bundle: ModelBundle, wave: Wave) -> Wave:
        match self:
            case Recorded.PLAIN:
                return wave
            case Recorded.RESPOKEN:
                return as_known(bundle, wave)
            case Recorded.RESYNTHESISED:
                return through_codec(bundle, wave)


@dataclass(frozen=True)
class VoiceStudy:
    """What is asked of a checkpoint. `recordings`: real speech of voices, by voice; `prompts` and `sentences`: how many
    are said for judging and for counting failures, by the default voice and by each other one."""

    spec: str
    prompts: tuple[int, int] = (42, 21)
    sentences: tuple[int, int] = (1000, 100)
    cfg_scale: float = 2.0
    seed: int = 0
    quality: bool = True
    recordings: Mapping[str, Sequence[Utterance]] = field(default_factory=dict)


def voice_page(study: VoiceStudy, jobs: int) -> Page:
    """Everything about every voice. Raises ModelError for a checkpoint without voices."""
    bundle = load_bundle(study.spec)
    voices = [voice.id for voice in bundle.extras.voices]
    if not voices:
        raise ModelError(f"{bundle.name} has no voices", param="model")
    judged: list[Future[dict[str, Any]]] = []
    counted: dict[str, list[Future[list[Outcome]]]] = {}
    # A fresh interpreter: a forked one would inherit torch's threads in an unknown state.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for place, voice in enumerate(voices):
            share = min(place, 1)
            texts = new_sentences(arctic_prompts(), study.sentences[share], study.seed, bundle.extras.max_segment_chars)
            parts = [texts[first : first + _PART] for first in range(0, len(texts), _PART)]
            counted[voice] = [pool.submit(count_failures, study, voice, part) for part in parts]
            judged.append(pool.submit(judge_voice, study, voice, study.prompts[share]))
            if voice in study.recordings:
                kinds = [kind for kind in Recorded if kind is not Recorded.RESPOKEN or bundle.extras.pitches_hz]
                judged += [pool.submit(judge_recordings, study, voice, kind) for kind in kinds]
        rows = [future.result() for future in judged]
        found = {voice: [one for part in parts for one in part.result()] for voice, parts in counted.items()}
    return _page(study, bundle, rows, {voice: tally(own) for voice, own in found.items()})


def judge_voice(study: VoiceStudy, voice: str, count: int) -> dict[str, Any]:
    """One voice on prompts that the network was not trained on."""
    bundle = load_bundle(study.spec)
    rate, own = bundle.codec.config.sampling_rate, bundle.voice(voice)
    assert own is not None
    texts = arctic_prompts()[:count]
    made = speak_lines(bundle, lines_in(bundle, own, texts), cfg_scale=study.cfg_scale, seed=study.seed)
    row = {"voice": voice, "speech": bundle.name, "cut": sum(one.cut for one in made)}
    return row | _judged(study, bundle, voice, texts, [(one.wave, rate) for one in made])


def judge_recordings(study: VoiceStudy, voice: str, kind: Recorded) -> dict[str, Any]:
    """The person whose voice it is."""
    bundle = load_bundle(study.spec)
    rate, spoken = bundle.codec.config.sampling_rate, study.recordings[voice]
    heard = [(kind.change(bundle, one.wave(rate)), rate) for one in spoken]
    row = {"voice": voice, "speech": kind.value}
    return row | _judged(study, bundle, voice, [one.text for one in spoken], heard)


def count_failures(study: VoiceStudy, voice: str, texts: Sequence[str]) -> list[Outcome]:
    """What became of each text."""
    bundle = load_bundle(study.spec)
    return list(outcomes(bundle, texts, voice=voice, seed=study.seed, cfg_scale=study.cfg_scale))


def _judged(
    study: VoiceStudy, bundle: ModelBundle, voice: str, texts: Sequence[str], heard: Sequence[Clip]
) -> dict[str, Any]:
    # Here, so that importing this module does not need the `eval` extra.
    from sled_tts.model.evaluation.recognition import ClosedSet, score

    closed = ClosedSet.of(arctic_prompts(), (), _CANDIDATES)
    told = score([(text, wave, rate) for text, (wave, rate) in zip(texts, heard, strict=True)], closed)
    row: dict[str, Any] = {"clips": told.clips, "wer_open": told.open_wer}
    if told.closed_set_clips:
        row["closed_set"] = told.closed_set_accuracy
    if study.quality:
        liked = opinion(choose(QUALITY_JUDGES, "dnsmos", "quality"), heard)
        speakers = choose(SPEAKER_JUDGES, "resemblyzer", "speaker")
        known = voice_embeddings(bundle, speakers)
        others = [embedding for name, embedding in known.items() if name != voice]
        similarity, beyond = margin(speakers, heard, known[voice], others)
        row |= {"p808": liked.p808, "ovrl": liked.ovrl, "similarity": similarity, "margin": beyond}
    return row


def _page(
    study: VoiceStudy, bundle: ModelBundle, rows: Sequence[dict[str, Any]], failed: Mapping[str, dict[str, Any]]
) -> Page:
    rows = [{**row, **(failed[row["voice"]] if row["speech"] == bundle.name else {})} for row in rows]
    panels = [
        Panel(
            column.title,
            bars={f"{r['voice']}, {r['speech']}": r[column.key] for r in rows if r.get(column.key) is not None},
        )
        for column in _COLUMNS
        if column.key in ("closed_set", "wer_open", "p808") and any(row.get(column.key) is not None for row in rows)
    ]
    scale = (
        f"Scale: checkpoint `{bundle.name}`; the first {study.prompts[0]} CMU Arctic prompts of the package, which its "
        f"training data does not hold, for the default voice, {study.prompts[1]} for the others; failures and silences "
        f"over {study.sentences[0]} and {study.sentences[1]} sentences made of halves of two prompts."
    )
    notes = [
        "Recogniser: pocketsphinx (decision 0003). Right sentence: the spoken one picked out of 300. P.808 and OVRL: "
        "DNSMOS. Similarity: resemblyzer, between what is said and the voice's own prompt through the codec. Failures: "
        "empty, cut off (more than 28 letters a second) and runaway (no end, or fewer than 5 letters a second).",
    ]
    return Page(
        "voice", "The voices of the checkpoint", scale, (*_COLUMNS, *FAILURE_COLUMNS), rows, notes=notes,
        drawing=Drawing(bundle.name, panels), settings={"guidance": study.cfg_scale, "seed": study.seed},
    )  # fmt: skip


def recordings_of(found: Sequence[Utterance], names: Mapping[str, str], most: int) -> dict[str, list[Utterance]]:
    """Up to `most` utterances of each voice, each text once; `names`: the speaker of a voice in the recordings.
    ModelError when a speaker is not there."""
    chosen: dict[str, list[Utterance]] = {}
    for voice, speaker in names.items():
        own = {one.text: one for one in found if one.speaker == speaker}
        if not own:
            there = ", ".join(sorted({one.speaker for one in found}))
            raise ModelError(f"no recordings of {speaker!r}; there are: {there}", param="recorded-as")
        chosen[voice] = list(own.values())[:most]
    return chosen


def recordings_in(source: Path) -> Path:
    """The test part of a corpus folder, where it says which that is; otherwise the folder or manifest itself."""
    return source / "cuts_dev.jsonl" if (source / "cuts_dev.jsonl").is_file() else source
