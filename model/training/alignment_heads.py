"""Which attention heads follow the text: `python -m sled_tts.model.training.alignment_heads CHECKPOINT --write`.

The checkpoint speaks prompts, a forced aligner (pocketsphinx) says where their words are, and the heads whose path
through the text agrees best with it are named in `sled_tts.json`, for word timings. Half of the prompts choose, the
other half judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer

from sled_tts.model.checkpoint import ModelBundle, load_bundle, resolve
from sled_tts.model.evaluation.recognition import arctic_prompts, to_recogniser
from sled_tts.model.following import AlignmentHeads
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.machine import machine_line
from sled_tts.model.text_path import TextPath
from sled_tts.model.training.alignment import Aligner, spoken_words
from sled_tts.model.training.attention_map import head_maps
from sled_tts.model.training.batches import Batch
from sled_tts.model.training.layout import NO_PROMPT, PromptSpan

# The silence that `to_recogniser` puts around a recording.
_EDGE_S = 0.1
_MOST_HEADS = 4
# Another head has to be worth its arithmetic, and a network without such heads must not be said to have some.
_WORTH, _USELESS_S = 0.98, 0.2


@dataclass(frozen=True)
class Spoken:
    """A prompt as it was said: `maps [layers, heads, S, T]`, the token each word begins in, and when it does."""

    maps: npt.NDArray[np.float32]
    tokens: list[int]
    starts_s: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """How far some heads are from the aligner, once `lead_s` has been added: seconds, over all words."""

    heads: AlignmentHeads
    mean_s: float
    p95_s: float
    words: int


def word_tokens(bundle: ModelBundle, text: str, ids: Sequence[int]) -> list[int]:
    """The token of `ids`, which spell a text that ends with `text`, in which each of its words begins."""
    ends = np.cumsum([bundle.tokenizer.text_bytes(token) for token in ids])
    whole = f" {text}".encode()
    first = int(ends[-1]) - len(text.encode())
    at = [k for k in range(1, len(whole)) if whole[k - 1 : k] == b" " and whole[k : k + 1] != b" "]
    return [int(np.searchsorted(ends, first + k - 1, side="right")) for k in at]


def speak(bundle: ModelBundle, texts: Sequence[str], seed: int, cfg_scale: float) -> Iterator[Spoken]:
    """Say `texts` in the default voice; those whose words cannot be found again are left out."""
    config, tokenizer, hop = bundle.config, bundle.tokenizer, bundle.codec.config.hop_length
    rate = bundle.codec.config.sampling_rate
    voice = bundle.voice() if bundle.is_streaming else None
    told = [] if voice is None else tokenizer.encode(voice.text)[:-1]
    prompt = torch.zeros(0, config.latent_dim) if voice is None else bundle.normalise(voice.latents)
    span = NO_PROMPT if voice is None else PromptSpan(len(told), len(prompt))
    aligner = Aligner.create()
    for number, text in enumerate(texts):
        ids = tokenizer.encode(text) if voice is None else tokenizer.encode(f" {text}")[1:]
        noise = seeded_noise(seed + number, config.generator.noise_channels, bundle.extras.noise_scale)
        most = int(bundle.extras.max_frames_per_token * len(ids))
        request = GenerationRequest(ids, noise, most, None if voice is None else prompt, told)
        said = generate(bundle.sled, [request], cfg_scale=cfg_scale, n=config.stream_n, m=config.stream_m)[0]
        whole = torch.cat([prompt, said.latents])
        wave = bundle.codec.decode(bundle.denormalise(whole)[None])[0][hop * len(prompt) :].numpy()
        pcm = np.frombuffer(to_recogniser(wave, rate), np.int16)
        found = aligner.align(pcm, text) if said.reason == "stop" else None
        if found is None or len(found.words) != len(text.split()):
            continue
        batch = Batch(
            torch.tensor([told + list(ids)]),
            torch.ones(1, len(told) + len(ids), dtype=torch.bool),
            whole[None],
            torch.ones(1, len(whole), dtype=torch.bool),
            torch.full((1, len(whole)), -1),
            [span],
        )
        starts = np.array([start for _, start, _ in found.words]) - _EDGE_S
        yield Spoken(head_maps(bundle.sled, batch).numpy(), word_tokens(bundle, text, ids), starts)


def judge(spoken: Sequence[Spoken], layer: int, heads: Sequence[int], frame_s: float, lead_s: float | None) -> Verdict:
    """`lead_s` None: the one that suits `spoken` best."""
    late = list[float]()
    for one in spoken:
        weights = one.maps[layer, list(heads)]
        weights = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-6)
        late += [path - start for path, start in zip(_path(weights.mean(0), one.tokens), one.starts_s / frame_s)]  # noqa: B905
    behind = np.asarray(late) * frame_s
    lead = -float(np.median(behind)) if lead_s is None else lead_s
    errors = np.abs(behind + lead)
    found = AlignmentHeads(layer, tuple(heads), round(lead, 3))
    return Verdict(found, float(errors.mean()), float(np.percentile(errors, 95)), len(errors))


def _path(weights: npt.NDArray[np.float32], tokens: Sequence[int]) -> list[int]:
    """The frame in which each token is reached, as it is known when it is; the end for those that never are."""
    path, reached = TextPath(max(0, tokens[0] - 1)), list[int]()
    for look in weights:
        path.see(look)
        while len(reached) < len(tokens) and (frame := path.reached(tokens[len(reached)])) is not None:
            reached.append(frame)
    return reached + [len(weights)] * (len(tokens) - len(reached))


def choose(spoken: Sequence[Spoken], frame_s: float) -> Verdict:
    """The best head, and those of its layer that make it better."""
    layers, width = spoken[0].maps.shape[:2]
    best = min(
        (judge(spoken, layer, [head], frame_s, None) for layer in range(layers) for head in range(width)),
        key=lambda verdict: verdict.mean_s,
    )
    layer = best.heads.layer
    while len(best.heads.heads) < _MOST_HEADS:
        more = [
            judge(spoken, layer, [*best.heads.heads, head], frame_s, None)
            for head in range(width)
            if head not in best.heads.heads
        ]
        next_best = min(more, key=lambda verdict: verdict.mean_s, default=best)
        if next_best.mean_s > _WORTH * best.mean_s:
            break
        best = next_best
    return best


def main(
    model: Annotated[str, typer.Argument(help="built-in, a folder or a hub id.")],
    count: Annotated[int, typer.Option(min=4, help="Prompts to speak.")] = 60,
    first: Annotated[int, typer.Option(min=0, help="How many prompts to leave out before them.")] = 200,
    seed: int = 0,
    cfg_scale: float = 2.0,
    write: Annotated[bool, typer.Option("--write", help="Name them in the checkpoint's sled_tts.json.")] = False,
) -> None:
    """Find the heads that follow the text. JSON last; exit code 1 when there are none."""
    bundle, folder = load_bundle(model), resolve(model)
    lookup = Aligner.create().decoder
    longest = bundle.extras.max_segment_chars or 200
    known = [
        text
        for text in arctic_prompts()[first:]
        if len(text) <= longest
        and len(spoken_words(text)) == len(text.split())
        and all(lookup.lookup_word(word) is not None for word in spoken_words(text))
    ]
    frame_s = bundle.codec.config.hop_length / bundle.codec.config.sampling_rate
    typer.echo(f"{machine_line()}, model {bundle.name}, prompts from {first}, cfg {cfg_scale}, seed {seed}")
    spoken = list(speak(bundle, known[:count], seed, cfg_scale))
    if len(spoken) < 4:
        typer.echo("too few prompts could be aligned", err=True)
        raise typer.Exit(1)
    chosen = choose(spoken[::2], frame_s)
    held_out = judge(spoken[1::2], chosen.heads.layer, chosen.heads.heads, frame_s, chosen.heads.lead_s)
    followed = held_out.mean_s < _USELESS_S
    result = {
        "alignment": chosen.heads.to_dict() if followed else None,
        "aligned": f"{len(spoken)} of {len(known[:count])} prompts",
        "chosen_by": {"words": chosen.words, "mean_ms": _ms(chosen.mean_s), "p95_ms": _ms(chosen.p95_s)},
        "judged_by": {"words": held_out.words, "mean_ms": _ms(held_out.mean_s), "p95_ms": _ms(held_out.p95_s)},
    }
    if write and followed:
        file = folder / "sled_tts.json"
        told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        file.write_text(json.dumps({**told, "alignment": chosen.heads.to_dict()}) + "\n", encoding="utf-8")
    typer.echo(json.dumps(result))
    if not followed:
        raise typer.Exit(1)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


if __name__ == "__main__":
    typer.run(main)
