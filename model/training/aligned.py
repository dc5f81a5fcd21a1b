"""What the network says in place of a corpus's own latents, frame by frame, for a decoder to learn to read.

The samples are aligned with the recordings since the network reads them (in part its own samples, as it does when it
speaks). A decoder that has only read the encoder's latents makes the network's small errors audible; one that was
trained on both does not (what vocoders call ground-truth-aligned training).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sled_tts.model.sled import Sled
from sled_tts.model.training.batches import Batch, Corpus, collate
from sled_tts.model.training.losses import condition_states
from sled_tts.model.training.pairing import Pairing, each_once
from sled_tts.model.training.resume import write_atomically

# The mildest noise a sample is drawn with, of the trained one: voices may be served with less than all of it.
_LEAST_NOISE = 0.5


@torch.inference_mode()
def write_aligned_samples(
    model: Sled, corpus: Corpus, out: Path, *, prompts: Pairing, positions: int = 3000, seed: int = 0
) -> int:
    """Write `[F, D]` float16 (.npy) with one sample for every frame of `corpus`, in the codec's own units; frames that
    the corpus leaves out stay as they are. Returns the number of samples.

    `positions` bounds the padded size of a batch. Raises ModelError when it cannot be written.
    """
    whole = corpus.latents[:]
    samples = np.array(whole, dtype=np.float16)
    device = model.cos.device
    torch.manual_seed(seed)
    rng, made = np.random.default_rng(seed), 0
    for pairs in each_once(corpus, positions, prompts, seed):
        utterances = [corpus.utterance(item, prompt=prompt) for prompt, item in pairs]
        batch = collate(utterances, left_pad_text=not model.config.is_streaming)
        found = _samples(model, batch.to(device), rng).cpu().numpy()
        for row, (utterance, (_, item)) in enumerate(zip(utterances, pairs, strict=True)):
            first = utterance.prompt.frames
            raw = found[row, first : first + item.frames] * corpus.std + corpus.mean.numpy()
            samples[item.offset : item.offset + item.frames] = raw.astype(np.float16)
            made += item.frames
    write_atomically(out, lambda partial: _save(samples, partial))
    return made


def _samples(model: Sled, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """`[B, S, D]` normalised, after a first pass whose samples are part of what is read."""
    layout = batch.layout(model.config)
    rows, frames = batch.speech_mask.shape
    noise = model.config.generator.noise_channels

    def sampled(read: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        states = condition_states(model, batch.ids, read, layout)[:, :-1]
        made: torch.Tensor = model.generator(states, (torch.randn(rows, frames, noise) * scale).to(states.device))
        return made

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, (rows, 1, 1)).astype(np.float32))

    first = sampled(batch.latents, torch.ones(()))
    own = (torch.rand(rows, frames, 1) < uniform(0.0, 1.0)).to(first.device)
    return sampled(torch.where(own, first, batch.latents), uniform(_LEAST_NOISE, 1.0))


def _save(samples: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:  # np.save would add a suffix to the name
        np.save(file, samples)
