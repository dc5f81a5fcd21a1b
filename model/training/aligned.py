"""What the network says in place of a corpus's own latents, frame by frame, for a decoder to learn to read.

The samples are aligned with the recordings since the network reads them (in part its own samples, as it does when it
speaks). A decoder that has only read the encoder's latents makes the network's small errors audible; one that was
trained on both does not (what vocoders call ground-truth-aligned training).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sled_tts.model.sled import Sled
from sled_tts.model.training.batches import Batch, Corpus, collate
from sled_tts.model.training.losses import condition_states
from sled_tts.model.training.pairing import Pairing, each_once
from sled_tts.model.training.resume import write_atomically


@dataclass(frozen=True)
class Sampling:
    """How an utterance is sampled, evenly between least and most: `noise`, of the trained one (voices may be served
    with less than all of it), and `guidance`, 1 for none. Nearest to what a decoder will read is what is served."""

    noise: tuple[float, float] = (0.5, 1.0)
    guidance: tuple[float, float] = (1.0, 1.0)


@torch.inference_mode()
def write_aligned_samples(
    model: Sled,
    corpus: Corpus,
    out: Path,
    *,
    prompts: Pairing,
    sampling: Sampling | None = None,
    positions: int = 3000,
    seed: int = 0,
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
    for pairs in each_once(corpus, positions, prompts, seed, model.config.max_position_embeddings):
        utterances = [corpus.utterance(item, prompt=prompt) for prompt, item in pairs]
        batch = collate(utterances, left_pad_text=not model.config.is_streaming)
        found = _samples(model, batch.to(device), sampling or Sampling(), rng).cpu().numpy()
        for row, (utterance, (_, item)) in enumerate(zip(utterances, pairs, strict=True)):
            first = utterance.prompt.frames
            raw = found[row, first : first + item.frames] * corpus.std + corpus.mean.numpy()
            samples[item.offset : item.offset + item.frames] = raw.astype(np.float16)
            made += item.frames
    write_atomically(out, lambda partial: _save(samples, partial))
    return made


def _samples(model: Sled, batch: Batch, how: Sampling, rng: np.random.Generator) -> torch.Tensor:
    """`[B, S, D]` normalised, after a first pass whose samples are part of what is read."""
    config = model.config
    rows, frames = batch.speech_mask.shape

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, (rows, 1, 1)).astype(np.float32))

    guidance, given = uniform(*how.guidance).to(batch.latents.device), [batch]
    if how.guidance != (1.0, 1.0):
        given.append(batch.without_text(torch.ones_like(batch.ids[:, 0], dtype=torch.bool), config))
    laid_out = [(one.ids, one.layout(config)) for one in given]

    def sampled(read: torch.Tensor) -> torch.Tensor:
        states, *without = (condition_states(model, ids, read, layout)[:, :-1] for ids, layout in laid_out)
        if without:
            states = without[0] + guidance * (states - without[0])
        noise = torch.randn(rows, frames, config.generator.noise_channels) * uniform(*how.noise)
        made: torch.Tensor = model.generator(states, noise.to(states.device))
        return made

    own = (torch.rand(rows, frames, 1) < uniform(0.0, 1.0)).to(batch.latents.device)
    return sampled(torch.where(own, sampled(batch.latents), batch.latents))


def _save(samples: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:  # np.save would add a suffix to the name
        np.save(file, samples)
