"""Batches of text, latents and phone labels, bucketed by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.interleave import training_layout
from sled_tts.model.tokenizer import PAD, Tokenizer
from sled_tts.model.training.synthetic import CorpusItem, read_audio, read_items


@torch.inference_mode()
def encode_corpus(corpus: Path, codec: Codec, out: Path) -> None:
    """Encode a corpus once to `out` (`[frames, D]` float16, .npy), unquantised, fp32 arithmetic."""
    audio, items = read_audio(corpus), list(read_items(corpus))
    hop = codec.config.hop_length
    latents = np.zeros((sum(item.frames for item in items), codec.config.dimension), dtype=np.float16)
    for item in items:
        span = np.asarray(audio[item.offset * hop : (item.offset + item.frames) * hop], dtype=np.float32)
        encoded = codec.encoder(torch.from_numpy(span / 32768)[None, None])[0]
        latents[item.offset : item.offset + item.frames] = encoded.transpose(0, 1).numpy()
    np.save(out, latents)


@dataclass(frozen=True)
class Utterance:
    """`ids` with `<s>` and `</s>`; `latents [S, D]` normalised; `phones [S]` indices."""

    ids: list[int]
    latents: Tensor
    phones: Tensor


@dataclass(frozen=True)
class Batch:
    """`ids, text_mask [B, T]`, `latents [B, S, D]`, `speech_mask [B, S]`, `phones [B, S]` (-1 = padding)."""

    ids: Tensor
    text_mask: Tensor
    latents: Tensor
    speech_mask: Tensor
    phones: Tensor


@dataclass(frozen=True)
class Corpus:
    """Encoded utterances with one normalisation for all: the network sees `(latent - mean) / std`."""

    items: list[CorpusItem]
    latents: np.ndarray
    mean: Tensor
    std: float
    phone_names: list[str]
    tokenizer: Tokenizer

    @classmethod
    def open(cls, folder: Path, latents: Path, tokenizer: Tokenizer, n: int | None, m: int | None) -> Corpus:
        """Keep the utterances whose speech lasts until all their text is read (nothing is shortened)."""
        data = np.load(latents, mmap_mode="r")
        sample = torch.from_numpy(np.asarray(data[:200_000], dtype=np.float32))
        mean = sample.mean(0)
        kept = [
            item
            for item in read_items(folder)
            if n is None or m is None or _text_leads(len(tokenizer.encode(item.text)), item.frames, n, m)
        ]
        names = sorted({phone for item in kept for phone in item.phones})
        return cls(kept, data, mean, float((sample - mean).std()), names, tokenizer)

    def utterance(self, item: CorpusItem, *, lower: bool = False) -> Utterance:
        raw = np.asarray(self.latents[item.offset : item.offset + item.frames], dtype=np.float32)
        index = {name: i for i, name in enumerate(self.phone_names)}
        return Utterance(
            ids=self.tokenizer.encode(item.text.lower() if lower else item.text),
            latents=(torch.from_numpy(raw) - self.mean) / self.std,
            phones=torch.tensor([index[phone] for phone in item.phones]),
        )


def _text_leads(tokens: int, frames: int, n: int, m: int) -> bool:
    """Whether no text would come after the last frame in the interleaved order."""
    return not training_layout(tokens, frames, n, m)[-1]


def collate(utterances: Sequence[Utterance], *, left_pad_text: bool) -> Batch:
    """Pad a batch; text on the left for offline models, on the right for streaming ones."""
    size = len(utterances)
    longest_text = max(len(u.ids) for u in utterances)
    longest = max(len(u.latents) for u in utterances)
    ids = torch.full((size, longest_text), PAD)
    text_mask = torch.zeros(size, longest_text, dtype=torch.bool)
    latents = torch.zeros(size, longest, utterances[0].latents.shape[1])
    speech_mask = torch.zeros(size, longest, dtype=torch.bool)
    phones = torch.full((size, longest), -1)
    for row, utterance in enumerate(utterances):
        text = slice(longest_text - len(utterance.ids), None) if left_pad_text else slice(len(utterance.ids))
        ids[row, text], text_mask[row, text] = torch.tensor(utterance.ids), True
        frames = len(utterance.latents)
        latents[row, :frames], speech_mask[row, :frames] = utterance.latents, True
        phones[row, :frames] = utterance.phones
    return Batch(ids, text_mask, latents, speech_mask, phones)


def bucketed(lengths: Sequence[int], positions: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Endless epochs of index lists whose padded size stays within `positions`, similar lengths together."""
    while True:
        jitter = rng.uniform(0, 20, len(lengths))
        order = np.argsort(np.asarray(lengths) + jitter)
        epoch: list[list[int]] = []
        batch: list[int] = []
        for index in order.tolist():
            if batch and (len(batch) + 1) * lengths[index] > positions:
                epoch.append(batch)
                batch = []
            batch.append(index)
        epoch.append(batch)
        for which in rng.permutation(len(epoch)):
            yield epoch[which]
