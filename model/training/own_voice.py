"""Give a voice of a checkpoint the sound of its recordings, as cloned voices have it (`model/imitating.py`).

    python -m sled_tts.model.training.own_voice CHECKPOINT VOICE CUT... --cuts cuts_train.jsonl --write

`CUT...` are ids of a manifest of lhotse MonoCuts (audio paths relative to it), one after another. The voice goes on
from the prompt that it has, or from `--prompt`, a part of the first cut in seconds that says `--told`, heard at the
pitch at which the checkpoint hears recordings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from sled_tts.model.bundle import ModelBundle
from sled_tts.model.calibration import Float32
from sled_tts.model.checkpoint import load_bundle, resolve
from sled_tts.model.config import DEFAULT_CFG_SCALE
from sled_tts.model.errors import ModelError
from sled_tts.model.imitating import Imitation
from sled_tts.model.machine import machine_line
from sled_tts.model.references import as_known, encode_recording, register_of
from sled_tts.model.training.manifests import Limits, read_manifest
from sled_tts.model.training.recordings import load_cut
from sled_tts.model.voices import BuiltInVoice, write_voice


def read_spoken(manifest: Path, ids: Sequence[str], rate: int) -> list[tuple[Float32, str]]:
    """Samples `[N]` at `rate` Hz and text of each cut, in the order asked for. ModelError for one that is missing or
    cannot be used."""
    found = {cut.id: cut for cut in read_manifest(manifest, Limits())[0] if cut.id in ids}
    if missing := [one for one in ids if one not in found]:
        raise ModelError(f"{manifest.name} has no usable cut {missing[0]!r}", param="cut")
    return [(load_cut(found[one], rate).astype(np.float32), found[one].supervisions[0].text.strip()) for one in ids]


def likened_voice(
    bundle: ModelBundle, voice: BuiltInVoice, recorded: Sequence[tuple[Float32, str]], cfg_scale: float, share: float
) -> BuiltInVoice:
    """`voice` with the register and the sound of recordings `(wave [N], text)`, and `share` of their resonances.

    ModelError for a checkpoint without a melody, and for recordings in which nothing is voiced.
    """
    wave = np.concatenate([one for one, _ in recorded])
    register = register_of(bundle, wave)
    if register is None or voice.register is None:
        raise ModelError(f"{bundle.name} has no melody, without which it has no sound of its own", param="model")
    register = replace(register, locked_hz=voice.register.locked_hz)
    imitation = Imitation(bundle, voice.latents.float().numpy(), voice.text, cfg_scale, share)
    hz, dynamics = imitation.likened(" ".join(text for _, text in recorded), wave, register)
    return replace(voice, register=replace(register, hz=round(hz, 1)), dynamics=dynamics)


def prompted(bundle: ModelBundle, voice: BuiltInVoice, part: Float32, told: str) -> BuiltInVoice:
    """`voice` going on from samples `[N]` that say `told`."""
    hop = bundle.codec.config.hop_length
    latents = encode_recording(bundle, as_known(bundle, part[: len(part) // hop * hop])).float().cpu()
    return replace(voice, latents=latents, text=told, register=voice.register and register_of(bundle, part))


@torch.inference_mode()
def main(
    model: Annotated[str, typer.Argument(help="built-in, a folder or a hub id.")],
    voice: Annotated[str, typer.Argument(help="The id of one of its voices.")],
    cut: Annotated[list[str], typer.Argument(help="Ids of cuts.")],
    cuts: Annotated[Path, typer.Option(help="Their manifest.")],
    prompt: Annotated[tuple[float, float] | None, typer.Option(help="Begin and end in the first cut, s.")] = None,
    told: Annotated[str | None, typer.Option(help="What is said there.")] = None,
    cfg_scale: float = DEFAULT_CFG_SCALE,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the resonances; more is more alike.")] = 0.5,
    write: Annotated[bool, typer.Option("--write", help="Put it into the checkpoint.")] = False,
) -> None:
    """Liken a voice to its recordings and say what was found. Exit code 1 for what cannot be."""
    try:
        bundle, folder = load_bundle(model), resolve(model)
        rate = bundle.codec.config.sampling_rate
        own = next((one for one in bundle.extras.voices if one.id == voice), None)
        if own is None:
            raise ModelError(f"{bundle.name} has no voice {voice!r}", param="voice")
        if (prompt is None) != (told is None):
            raise ModelError("--prompt and --told go together", param="prompt")
        recorded = read_spoken(cuts, cut, rate)
        if prompt is not None and told is not None:
            own = prompted(bundle, own, recorded[0][0][round(prompt[0] * rate) : round(prompt[1] * rate)], told)
        own = likened_voice(bundle, own, recorded, cfg_scale, share)
    except ModelError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if write:
        path = folder / "sled_tts.json"
        about = json.loads(path.read_text(encoding="utf-8"))
        entry = write_voice(own, folder)
        about["voices"] = [entry if one["id"] == voice else one for one in about["voices"]]
        path.write_text(json.dumps(about) + "\n", encoding="utf-8")
    typer.echo(f"{machine_line()}, model {bundle.name}, cfg {cfg_scale}, share {share}, cuts {' '.join(cut)}")
    typer.echo(
        json.dumps({"voice": voice, "frames": len(own.latents), "register": own.register and own.register.to_dict()})
    )


if __name__ == "__main__":
    typer.run(main)
