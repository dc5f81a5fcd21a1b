"""How well a voice is understood: `python -m sled_tts.model.evaluation.voice`.

Speaks prompts the model was not trained on and judges them by ASR, beside the codec's own resynthesis
and real recordings where they are given. Prints the machine, the versions and the seed; JSON last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import soxr
import torch
import typer

from sled_tts.model.checkpoint import BUILT_IN, ModelBundle, load_bundle
from sled_tts.model.evaluation.judges import QUALITY_JUDGES, SPEAKER_JUDGES, choose
from sled_tts.model.evaluation.naturalness import margin, opinion, voice_embeddings
from sled_tts.model.evaluation.prompting import through_codec
from sled_tts.model.evaluation.recognition import ClosedSet, Wave, arctic_prompts, score
from sled_tts.model.evaluation.signal import inspect
from sled_tts.model.machine import machine_line
from sled_tts.model.speaking import lines_in, speak_lines


def speak(
    bundle: ModelBundle, texts: Sequence[str], *, seed: int, cfg_scale: float, batch: int = 8, voice: str | None = None
) -> list[tuple[Wave, str]]:
    """Wave and finish reason for each text, in one of the checkpoint's voices (None: its default, if it has any)."""
    lines = lines_in(bundle, bundle.voice(voice), texts)
    spoken = speak_lines(bundle, lines, cfg_scale=cfg_scale, seed=seed, batch=batch)
    return [(one.wave, "length" if one.cut else "stop") for one in spoken]


def held_out(texts: Path | None, count: int) -> list[str]:
    """Sentences to speak: a file, or the Arctic prompts that no training corpus of the built-in voice has."""
    if texts is not None:
        return [line for line in texts.read_text(encoding="utf-8").splitlines() if line.strip()][:count]
    # The prompts are stored with the held-out ones first.
    return arctic_prompts()[:count]


def main(
    model: str = BUILT_IN,
    texts: Annotated[Path | None, typer.Option(help="One sentence a line.")] = None,
    count: int = 40,
    candidates: int = 300,
    seed: int = 0,
    cfg_scale: float = 2.0,
    voice: Annotated[str | None, typer.Option(help="One of the checkpoint's voices.")] = None,
    recordings: Annotated[Path | None, typer.Option(help="JSON lines of {text, path}: real speech to compare.")] = None,
    quality: Annotated[bool, typer.Option(help="DNSMOS and speaker similarity too (the quality extra).")] = False,
    flat: Annotated[bool, typer.Option(help="At one pitch: without the checkpoint's melody.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the wav files.")] = None,
) -> None:
    """Closed-set accuracy and open WER of a voice on held-out prompts."""
    torch.manual_seed(seed)
    bundle = load_bundle(model).without_melody() if flat else load_bundle(model)
    rate = bundle.codec.config.sampling_rate
    closed = ClosedSet.of(held_out(texts, count), arctic_prompts(), candidates)
    chosen = [text for text in held_out(texts, count) if text in closed.candidates]
    typer.echo(machine_line())
    sizes = f"{len(chosen)} prompts, {len(closed.candidates)} candidates"
    typer.echo(f"model {bundle.name}, cfg {cfg_scale}, seed {seed}, {sizes}")
    spoken = speak(bundle, chosen, seed=seed, cfg_scale=cfg_scale, voice=voice)
    result: dict[str, object] = {
        "synthesis": asdict(score([(t, w, rate) for t, (w, _) in zip(chosen, spoken, strict=True)], closed)),
        "not_finished": sum(reason != "stop" for _, reason in spoken),
    }
    reports = [inspect(wave, rate) for wave, _ in spoken]
    result["signal"] = {
        name: float(np.mean([getattr(report, name) for report in reports])) for name in reports[0].__dataclass_fields__
    }
    if quality:
        speakers = choose(SPEAKER_JUDGES, "resemblyzer", "speaker")
        heard = [(wave, rate) for wave, _ in spoken]
        result["opinion"] = asdict(opinion(choose(QUALITY_JUDGES, "dnsmos", "quality"), heard))
        if (own := bundle.voice(voice)) is not None:
            known = voice_embeddings(bundle, speakers)
            others = [embedding for voice_id, embedding in known.items() if voice_id != own.id]
            similarity, beyond = margin(speakers, heard, known[own.id], others)
            result["speaker"] = {"voice": own.id, "similarity": similarity, "margin_over_other_voices": beyond}
    if recordings is not None:
        items = [json.loads(line) for line in recordings.read_text(encoding="utf-8").splitlines() if line]
        clips = [(item["text"], *soundfile.read(item["path"], dtype="float32")) for item in items]
        clips = [clip for clip in clips if clip[0] in chosen]
        result["recordings"] = asdict(score(clips, closed))
        result["codec_resynthesis_of_recordings"] = asdict(score(_resynthesise(bundle, clips), closed))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for index, (wave, _) in enumerate(spoken):
            soundfile.write(out / f"{index:04d}.wav", wave, rate)
    typer.echo(json.dumps(result))


def _resynthesise(bundle: ModelBundle, clips: Sequence[tuple[str, Wave, int]]) -> list[tuple[str, Wave, int]]:
    rate = bundle.codec.config.sampling_rate
    return [
        (text, through_codec(bundle, soxr.resample(wave, source_rate, rate).astype(np.float32)), rate)
        for text, wave, source_rate in clips
    ]


if __name__ == "__main__":
    typer.run(main)
