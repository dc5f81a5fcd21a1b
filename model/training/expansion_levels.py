"""How loud each band of a checkpoint's speech is, for its melody's `expansion` (`model/melody/expanding.py`).

    python -m sled_tts.model.training.expansion_levels CHECKPOINT --write

Its voices say some sentences; the level that one in twenty windows exceeds, in each band, is what noise is measured by.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import typer

from sled_tts.model.bundle import ModelBundle
from sled_tts.model.checkpoint import load_bundle, resolve
from sled_tts.model.evaluation.sentences import arctic_prompts
from sled_tts.model.machine import machine_line
from sled_tts.model.melody.dynamics import Float32, levels, spectra_of
from sled_tts.model.speaking import lines_in, speak_lines

_LOUD = 95.0


def loud_levels(bundle: ModelBundle, texts: Sequence[str], window: int, *, seed: int, cfg_scale: float) -> Float32:
    """`[window / 2 + 1]` dB over what all voices of `bundle` make of `texts`, without its expansion."""
    plain = bundle.without_expansion()
    heard = [
        levels(spectra_of(said.wave, window))
        for voice in plain.extras.voices
        for said in speak_lines(
            plain, lines_in(plain, replace(voice, dynamics=None), texts), cfg_scale=cfg_scale, seed=seed
        )
    ]
    return np.asarray(np.percentile(np.concatenate(heard), _LOUD, axis=0), dtype=np.float32)


def main(
    model: Annotated[str, typer.Argument(help="built-in, a folder or a hub id.")],
    count: Annotated[int, typer.Option(min=1, help="Prompts that each voice says.")] = 8,
    first: Annotated[int, typer.Option(min=0, help="How many prompts to leave out before them.")] = 200,
    window: Annotated[int, typer.Option(min=16, help="Samples; a multiple of 8.")] = 256,
    threshold_db: Annotated[float, typer.Option(min=0.0, max=80.0)] = 15.0,
    slope: Annotated[float, typer.Option(min=0.0, max=4.0)] = 0.5,
    seed: int = 0,
    cfg_scale: float = 2.0,
    write: Annotated[bool, typer.Option("--write", help="Put it into the checkpoint's sled_tts.json.")] = False,
) -> None:
    """Measure the levels of a checkpoint with voices and a melody. JSON last; exit code 1 for others."""
    bundle, folder = load_bundle(model), resolve(model)
    if bundle.extras.melody is None or not bundle.extras.voices:
        typer.echo(f"{bundle.name} has no {'voices' if bundle.extras.melody else 'melody'}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{machine_line()}, model {bundle.name}, prompts from {first}, cfg {cfg_scale}, seed {seed}")
    texts = arctic_prompts()[first : first + count]
    found = loud_levels(bundle, texts, window, seed=seed, cfg_scale=cfg_scale)
    expansion = {
        "levels_db": [round(float(one), 1) for one in found],
        "threshold_db": threshold_db,
        "slope": slope,
    }
    if write:
        path = folder / "sled_tts.json"
        told = json.loads(path.read_text(encoding="utf-8"))
        told["melody"]["expansion"] = expansion
        path.write_text(json.dumps(told) + "\n", encoding="utf-8")
    typer.echo(json.dumps(expansion))


if __name__ == "__main__":
    typer.run(main)
