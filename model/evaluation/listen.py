"""Judge a folder of recordings: `python -m sled_tts.model.evaluation.listen --wavs DIR --prompts FILE`.

DIR holds 0000.wav, 0001.wav, ...; line k of FILE is what k.wav says. One line a clip, JSON last.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import soundfile
import typer

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.recognition import ClosedSet, Wave, arctic_prompts, listen, summary
from sled_tts.model.evaluation.signal import inspect


def read_clips(wavs: Path, prompts: Path) -> list[tuple[str, Wave, int]]:
    """`(text, mono samples in -1..1, rate)` for every NNNN.wav, in order; ModelError for one without a line."""
    lines = prompts.read_text(encoding="utf-8").splitlines()
    clips = []
    for path in sorted(p for p in wavs.glob("*.wav") if p.stem.isdecimal()):
        line = int(path.stem)
        if line >= len(lines) or not lines[line].strip():
            raise ModelError(f"{path.name} has no text: {prompts} has {len(lines)} lines")
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        clips.append((lines[line].strip(), samples.mean(axis=1), rate))
    if not clips:
        raise ModelError(f"no NNNN.wav in {wavs}")
    return clips


def main(
    wavs: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of NNNN.wav.")],
    prompts: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="One text a line.")],
    candidates: Annotated[int, typer.Option(min=2, help="Sentences to choose from in the closed set.")] = 300,
) -> None:
    """Closed-set accuracy, open WER and signal faults of recordings."""
    try:
        clips = read_clips(wavs, prompts)
        closed = ClosedSet.of([text for text, _, _ in clips], arctic_prompts(), candidates)
    except ModelError as error:
        raise typer.BadParameter(str(error)) from None
    heard = []
    for number, (text, wave, rate) in enumerate(clips):
        heard.append(one := listen(text, wave, rate, closed))
        report = inspect(wave, rate)
        verdict = "-" if one.chosen is None else "yes" if one.chosen else "no"
        typer.echo(
            f"{number:4d}  closed {verdict:3s}  wrong {one.errors:2d} of {one.words:2d}  {report.duration_s:5.2f} s  "
            f"peak {report.peak:.2f}  clicks {report.clicks}  {text}"
        )
    typer.echo(json.dumps({"candidates": len(closed.candidates), **asdict(summary(heard))}))


if __name__ == "__main__":
    typer.run(main)
