"""Utterances of a corpus as text, latents and phone labels, and padded together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.config import SledConfig
from sled_tts.model.interleave import training_layout
from sled_tts.model.tokenizer import PAD, Tokenizer
from sled_tts.model.training.layout import NO_PROMPT, PromptSpan, TrainingLayout, layout_for
from sled_tts.model.training.losses import drop_text
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
        wave = torch.from_numpy(span / 32768)[None, None]
        made = codec.encode(wave) if quantised else codec.encode_unquantised(wave)
        latents[item.offset : item.offset + item.frames] = made[0].numpy()
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

    def layout(self, config: SledConfig, pacing: tuple[int, int] | None = None) -> TrainingLayout:
        """How a network of this configuration reads it: each row by its own lengths, prompts as blocks in front;
        `pacing` is an n:m other than the configuration's."""
        prompts = self.prompts if config.is_streaming else None
        return layout_for(config, self.text_mask, self.speech_mask, compact=True, prompts=prompts, pacing=pacing)

    def without_text(self, dropped: Tensor, config: SledConfig) -> Batch:
        """The same with no text in the rows `dropped [B]`, for guidance (see `drop_text`)."""
        ids, text_mask = drop_text(
            self.ids, self.text_mask, dropped, streaming=config.is_streaming, eos=config.eos_token_id
        )
        # A row without text has nothing to interleave: its prompt is simply earlier speech.
        prompts = [NO_PROMPT if gone else p for gone, p in zip(dropped.tolist(), self.prompts, strict=True)]
        return replace(self, ids=ids, text_mask=text_mask, prompts=prompts)

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.ids.to(device),
            self.text_mask.to(device),
            self.latents.to(device),
            self.speech_mask.to(device),
            self.phones.to(device),
            self.prompts,
        )


class LatentFrames(Protocol):
    """Latents of a corpus, one utterance after the other: an array `[F, D]`, or what can be read like one."""

    def __getitem__(self, span: slice, /) -> np.ndarray: ...


def normalisation(latents: LatentFrames) -> tuple[Tensor, float]:
    """Mean latent `[D]` of a corpus, and the standard deviation of all elements from it."""
    sample = torch.from_numpy(np.asarray(latents[:200_000], dtype=np.float32))
    mean = sample.mean(0)
    return mean, float((sample - mean).std())


class TrainingData(Protocol):
    """What a network can be trained on: a corpus, or one that is read piece by piece.

    A lane is a sequence of windows, each of which fits in memory; a process reads the lanes of its micro-batches.
    """

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> float: ...

    @property
    def phone_names(self) -> list[str]: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def lanes(self, wanted: int) -> int:
        """How many lanes there are when `wanted` micro-batches make a step: that many, or one for all."""

    def window(self, lane: int, lanes: int, number: int) -> Corpus:
        """Window `number` of a lane, counted on over the epochs."""

    def windows(self) -> Iterator[Corpus]:
        """Every utterance once, in order."""

    def describe(self) -> str:
        """What must not change when a run is resumed."""


@dataclass(frozen=True)
class Corpus:
    """Encoded utterances with one normalisation for all: the network sees `(latent - mean) / std`. `left_out`: how
    many there were beside them that cannot be trained on."""

    items: list[CorpusItem]
    latents: LatentFrames
    mean: Tensor
    std: float
    phone_names: list[str]
    tokenizer: Tokenizer
    left_out: int = 0

    @classmethod
    def open(
        cls,
        folder: Path,
        latents: Path,
        tokenizer: Tokenizer,
        n: int | None,
        m: int | None,
        most: int | None = None,
    ) -> Corpus:
        """Keep the utterances that can be trained on (see `lasting`; nothing is shortened)."""
        data = np.load(latents, mmap_mode="r")
        mean, std = normalisation(data)
        every = list(read_items(folder))
        kept = lasting(every, tokenizer, n, m, most)
        names = sorted({phone for item in kept for phone in item.phones})
        left_out = len(every) - len(kept)
        return cls(kept, data, mean, std, names, tokenizer, left_out)

    def lanes(self, wanted: int) -> int:
        return 1

    def window(self, lane: int, lanes: int, number: int) -> Corpus:
        return self

    def windows(self) -> Iterator[Corpus]:
        yield self

    def describe(self) -> str:
        return f"{len(self.items)} utterances, {sum(item.frames for item in self.items)} frames"

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


def lasting(
    items: Iterable[CorpusItem], tokenizer: Tokenizer, n: int | None, m: int | None, most: int | None = None
) -> list[CorpusItem]:
    """The utterances that can be trained on: their speech lasts until all their text is read (where they are
    interleaved), and both together are at most `most` positions."""
    kept = []
    for item in items:
        tokens = len(tokenizer.encode(item.text))
        if most is not None and tokens + item.frames > most:
            continue
        if n is None or m is None or _text_leads(tokens, item.frames, n, m):
            kept.append(item)
    return kept


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
