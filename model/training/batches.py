"""Batches of text, latents and phone labels, bucketed by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.interleave import training_layout
from sled_tts.model.tokenizer import PAD, Tokenizer
from sled_tts.model.training.layout import NO_PROMPT, PromptSpan
from sled_tts.model.training.synthetic import CorpusItem, read_audio, read_items


@torch.inference_mode()
def encode_corpus(corpus: Path, codec: Codec, out: Path, *, quantised: bool = False) -> None:
    """Encode a corpus once to `out` (`[frames, D]` float16, .npy), fp32 arithmetic.

    `quantised`: the sum of the codes' embeddings, which the published models are trained on; otherwise what the
    encoder gives.
    """
    audio, items = read_audio(corpus), list(read_items(corpus))
    hop = codec.config.hop_length
    latents = np.zeros((sum(item.frames for item in items), codec.config.dimension), dtype=np.float16)
    for item in items:
        span = np.asarray(audio[item.offset * hop : (item.offset + item.frames) * hop], dtype=np.float32)
        encoded = codec.encoder(torch.from_numpy(span / 32768)[None, None])[0]
        made = encoded.transpose(0, 1)
        if quantised:
            made = codec.quantizer.decode(codec.quantizer.encode(made[None]))[0]
        latents[item.offset : item.offset + item.frames] = made.numpy()
    np.save(out, latents)


@dataclass(frozen=True)
class Utterance:
    """`ids` with `<s>` and `</s>`; `latents [S, D]` normalised; `phones [S]` indices, -1 where unknown.

    Its first `prompt.tokens` ids and `prompt.frames` latents are another utterance of the same speaker.
    """

    ids: list[int]
    latents: Tensor
    phones: Tensor
    prompt: PromptSpan = NO_PROMPT

    def after(self, prompt: Utterance) -> Utterance:
        """This utterance with `prompt` spoken before it: the space between the two belongs to this one, and only the
        end of the whole is an end (`self.ids` must have been encoded with a space in front)."""
        told = prompt.ids[:-1]
        return Utterance(
            ids=told + self.ids[1:],
            latents=torch.cat([prompt.latents, self.latents]),
            phones=torch.cat([prompt.phones, self.phones]),
            prompt=PromptSpan(len(told), len(prompt.latents)),
        )


@dataclass(frozen=True)
class Batch:
    """`ids, text_mask [B, T]`, `latents [B, S, D]`, `speech_mask [B, S]`, `phones [B, S]` (-1 = padding), and how
    much of each row is a prompt."""

    ids: Tensor
    text_mask: Tensor
    latents: Tensor
    speech_mask: Tensor
    phones: Tensor
    prompts: list[PromptSpan]

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.ids.to(device),
            self.text_mask.to(device),
            self.latents.to(device),
            self.speech_mask.to(device),
            self.phones.to(device),
            self.prompts,
        )


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

    def utterance(self, item: CorpusItem, *, lower: bool = False, prompt: CorpusItem | None = None) -> Utterance:
        """`item`, spoken after `prompt` when one is given."""
        raw = np.asarray(self.latents[item.offset : item.offset + item.frames], dtype=np.float32)
        index = {name: i for i, name in enumerate(self.phone_names)}
        text = item.text.lower() if lower else item.text
        spoken = Utterance(
            ids=self.tokenizer.encode(text if prompt is None else f" {text}"),
            latents=(torch.from_numpy(raw) - self.mean) / self.std,
            phones=torch.tensor([index[phone] for phone in item.phones] or [-1] * item.frames),
        )
        return spoken if prompt is None else spoken.after(self.utterance(prompt, lower=lower))


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
    return Batch(ids, text_mask, latents, speech_mask, phones, [u.prompt for u in utterances])


@dataclass(frozen=True)
class Pairing:
    """How often an utterance follows a prompt, and how long (frames) a prompt may be."""

    share: float = 0.0
    max_frames: int = 200


Pair = tuple[CorpusItem | None, CorpusItem]


@dataclass
class PairedBatches:
    """Batches of (prompt, item) whose padded size stays within `positions`; batch i is a function of the seed and i.

    An epoch holds every utterance once; prompts are drawn anew each epoch among the same speaker's short utterances.
    """

    corpus: Corpus
    positions: int
    pairing: Pairing
    seed: int
    _sizes: list[int] = field(init=False, repr=False)
    _candidates: dict[str, list[int]] = field(init=False, repr=False)
    _epoch: list[list[Pair]] = field(default_factory=list, init=False, repr=False)
    _number: int = field(default=-1, init=False, repr=False)
    _first: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        items, tokenizer = self.corpus.items, self.corpus.tokenizer
        self._sizes = [item.frames + len(tokenizer.encode(item.text)) for item in items]
        self._candidates = {}
        for index, item in enumerate(items):
            if item.frames <= self.pairing.max_frames:
                self._candidates.setdefault(item.speaker, []).append(index)

    def __getitem__(self, index: int) -> list[Pair]:
        """Batch `index >= 0`. Going forward is cheap; going back starts over."""
        if index < self._first:
            self._epoch, self._number, self._first = [], -1, 0
        while index >= self._first + len(self._epoch):
            self._first += len(self._epoch)
            self._number += 1
            self._epoch = self._make_epoch(np.random.default_rng([self.seed, self._number]))
        return self._epoch[index - self._first]

    def _make_epoch(self, rng: np.random.Generator) -> list[list[Pair]]:
        items = self.corpus.items
        prompts: list[int | None] = []
        for index, item in enumerate(items):
            others = self._candidates.get(item.speaker, [])
            drawn = others[rng.integers(len(others))] if others and rng.random() < self.pairing.share else index
            prompts.append(None if drawn == index else drawn)
        lengths = [own + (0 if p is None else self._sizes[p]) for own, p in zip(self._sizes, prompts, strict=True)]
        return [
            [(None if (p := prompts[i]) is None else items[p], items[i]) for i in batch]
            for batch in _one_epoch(lengths, self.positions, rng)
        ]


def _one_epoch(lengths: Sequence[int], positions: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Index lists whose padded size stays within `positions`, similar lengths together, in random order."""
    jitter = rng.uniform(0, 20, len(lengths))
    order = np.argsort(np.asarray(lengths) + jitter)
    epoch: list[list[int]] = []
    batch: list[int] = []
    for index in order.tolist():
        longest = max([lengths[index], *(lengths[i] for i in batch)])
        if batch and (len(batch) + 1) * longest > positions:
            epoch.append(batch)
            batch = []
        batch.append(index)
    epoch.append(batch)
    for which in rng.permutation(len(epoch)):
        yield epoch[which]
