"""Lines of text spoken in batches, each after a prompt or none, for everything that is judged or calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sled_tts.model.checkpoint import ModelBundle
from sled_tts.model.errors import ModelError
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.register import Register
from sled_tts.model.voices import BuiltInVoice

Wave = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Line:
    """`text` to say. `prompt`: normalised latents `[S, D]` to go on from, `told`: what they say; None when that opens
    `text` (the paper's prefix). `register`: where a checkpoint's melody lies; None leaves speech at one pitch.
    `dynamics`: of its voice, instead of the checkpoint's expansion."""

    text: str
    prompt: Tensor | None = None
    told: str | None = None
    register: Register | None = None
    dynamics: Dynamics | None = None


def lines_in(bundle: ModelBundle, voice: BuiltInVoice | None, texts: Sequence[str]) -> list[Line]:
    """`texts` in one of the checkpoint's voices; None for one that has none."""
    if voice is None:
        return [Line(text) for text in texts]
    prompt = bundle.normalise(voice.latents)
    return [Line(text, prompt, voice.text, voice.register, voice.dynamics) for text in texts]


@dataclass(frozen=True)
class Uttered:
    """What `bundle` has written for a `line` with a `seed`, decoded when its sound is asked for. `latents [S, D]`: the
    added frames, normalised. `cut`: the bound came before the stop. `states [S or S + 1, H]`: what the generator was
    given, if asked for."""

    bundle: ModelBundle = field(repr=False)
    line: Line
    seed: int
    latents: Tensor
    cut: bool
    states: Tensor | None = None

    @cached_property
    def wave(self) -> Wave:
        """What was added."""
        heard, line = self.bundle.denormalise(self.latents), self.line
        return melodised(self.bundle, self._decoded[self._held :], heard, line.register, self.seed, line.dynamics)

    @property
    def whole(self) -> Wave:
        """With the prompt before it."""
        return np.concatenate([self._decoded[: self._held], self.wave])

    @cached_property
    def _decoded(self) -> Wave:
        """Prompt and what was added together: decoding only the new part begins differently."""
        prompt = self.line.prompt
        return _decode(self.bundle, self.latents if prompt is None else torch.cat([prompt.float().cpu(), self.latents]))

    @property
    def _held(self) -> int:
        """Samples of the prompt."""
        return 0 if self.line.prompt is None else len(self.line.prompt) * self.bundle.codec.config.hop_length


def speak_lines(
    bundle: ModelBundle,
    lines: Sequence[Line],
    *,
    cfg_scale: float,
    seed: int,
    pacing: tuple[int, int] | None = None,
    noise_scale: float | None = None,
    batch: int = 8,
    trace: bool = False,
) -> list[Uttered]:
    """Line i has seed `seed + i` whatever the batch. `pacing`, `noise_scale`: the checkpoint's own by default.

    Raises ModelError for a pacing of an offline checkpoint, and for a prompt and text that leave no room for speech.
    """
    config = bundle.config
    if pacing is not None and not bundle.is_streaming:
        raise ModelError(f"{bundle.name} is an offline checkpoint and has no pacing", param="pacing")
    n, m = pacing or (config.stream_n, config.stream_m)
    scale = bundle.extras.noise_scale if noise_scale is None else noise_scale
    requests = [_request(bundle, line, seed + index, scale) for index, line in enumerate(lines)]
    spoken: list[Uttered] = []
    for first in range(0, len(requests), batch):
        made = generate(bundle.sled, requests[first : first + batch], cfg_scale=cfg_scale, n=n, m=m, trace=trace)
        for index, result in enumerate(made, first):
            cut = result.reason != "stop"
            spoken.append(Uttered(bundle, lines[index], seed + index, result.latents.float().cpu(), cut, result.z))
    return spoken


def _request(bundle: ModelBundle, line: Line, seed: int, noise_scale: float) -> GenerationRequest:
    config, tokenizer = bundle.config, bundle.tokenizer
    told: list[int] = []
    if line.told is None:
        ids = tokenizer.encode(line.text)
    elif bundle.takes_blocks:
        # After a prompt block a text begins with the space that parts it from there, and without `<s>`.
        told, ids = tokenizer.encode(line.told)[:-1], tokenizer.encode(f" {line.text}")[1:]
    else:
        ids = tokenizer.encode(f"{line.told} {line.text}")
    held = len(told) + len(ids) + (0 if line.prompt is None else len(line.prompt))
    own = len(tokenizer.encode(line.text))
    most = min(int(bundle.extras.max_frames_per_token * own), config.max_position_embeddings - held)
    if most < 1:
        raise ModelError(
            f"text and prompt take {held} of {config.max_position_embeddings} positions: {line.text[:40]!r}...",
            param="longest",
        )
    noise = seeded_noise(seed, config.generator.noise_channels, noise_scale)
    return GenerationRequest(ids, noise, most, line.prompt, told)


def melodised(
    bundle: ModelBundle,
    wave: Wave,
    latents: Tensor,
    register: Register | None,
    seed: int,
    dynamics: Dynamics | None = None,
) -> Wave:
    """The sound `[S * hop]` of codec latents `[S, D]` with the checkpoint's melody; as it is where there is none."""
    codec, melody = bundle.codec.config, bundle.extras.melody
    if melody is None or register is None:
        return wave
    melodist = melody.begin(register, seed, rate=codec.sampling_rate, hop=codec.hop_length, dynamics=dynamics)
    return melodist.push(wave, latents.float().cpu().numpy(), final=True)


@torch.inference_mode()
def sound_of(bundle: ModelBundle, latents: Tensor, register: Register | None, dynamics: Dynamics | None = None) -> Wave:
    """How codec latents `[S, D]` sound from this checkpoint: voices, and recordings that went through its codec. With a
    register, melody and all."""
    wave: Wave = bundle.codec.decode(latents[None].to(bundle.sled.cos.device))[0].cpu().numpy()
    return melodised(bundle, wave, latents, register, 0, dynamics)


def _decode(bundle: ModelBundle, latents: Tensor) -> Wave:
    if not len(latents):
        return np.zeros(0, dtype=np.float32)
    return sound_of(bundle, bundle.denormalise(latents), None)
