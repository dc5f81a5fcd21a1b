"""Batches of text, latents and phone labels, bucketed by length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.interleave import training_layout
from sled_tts.model.tokenizer import PAD, Tokenizer
from sled_tts.model.training.layout import NO_PROMPT, PromptSpan
from sled_tts.model.training.synthetic import CorpusItem, read_audio, read_items
from sled_tts.model.training.workers import Workers


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


class LatentFrames(Protocol):
    """Latents of a corpus, one utterance after the other: an array `[F, D]`, or what can be read like one."""

    def __getitem__(self, span: slice, /) -> np.ndarray: ...


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
    """Encoded utterances with one normalisation for all: the network sees `(latent - mean) / std`."""

    items: list[CorpusItem]
    latents: LatentFrames
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
        kept = lasting(read_items(folder), tokenizer, n, m)
        names = sorted({phone for item in kept for phone in item.phones})
        return cls(kept, data, mean, float((sample - mean).std()), names, tokenizer)

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


def lasting(items: Iterable[CorpusItem], tokenizer: Tokenizer, n: int | None, m: int | None) -> list[CorpusItem]:
    """The utterances whose speech lasts until all their text is read; all of them without interleaving."""
    if n is None or m is None:
        return list(items)
    return [item for item in items if _text_leads(len(tokenizer.encode(item.text)), item.frames, n, m)]


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
class _Place:
    """The batches of one window of a lane; `first` is the number of its first batch within the lane."""

    window: int
    first: int
    corpus: Corpus
    batches: list[list[Pair]]


@dataclass
class PairedBatches:
    """Batches of (prompt, item) whose padded size stays within `positions`, with the corpus they are from; batch i is
    a function of the seed and i.

    Batch i is the (i // lanes)-th of lane i % lanes. A window holds each of its utterances once an epoch; prompts are
    drawn anew each time among the same speaker's short utterances of the window. Its state is where each lane is,
    which only saves reading everything before again.
    """

    data: TrainingData
    positions: int
    pairing: Pairing
    seed: int
    lanes: int = 1
    _places: dict[int, _Place] = field(default_factory=dict, init=False, repr=False)
    _starts: dict[int, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    def __getitem__(self, index: int) -> tuple[Corpus, list[Pair]]:
        """Batch `index >= 0`. Going forward is cheap; going back starts over."""
        number, lane = divmod(index, self.lanes)
        place = self._places.get(lane)
        if place is None or number < place.first:
            window, first = self._starts.get(lane, (0, 0))
            place = self._open(lane, *((window, first) if first <= number else (0, 0)))
        while number >= place.first + len(place.batches):
            place = self._open(lane, place.window + 1, place.first + len(place.batches))
        return place.corpus, place.batches[number - place.first]

    def share(self, workers: Workers) -> None:
        """Learn from all processes where every lane is, before the state is saved."""
        if workers.size > self.lanes:  # a corpus in memory, in which going forward is cheap
            return
        own = [(p.window, p.first) if (p := self._places.get(lane)) else (0, 0) for lane in range(self.lanes)]
        summed = [round(value) for value in workers.total([float(number) for place in own for number in place])]
        self._starts = {lane: (summed[2 * lane], summed[2 * lane + 1]) for lane in range(self.lanes)}

    def state_dict(self) -> dict[str, Any]:
        return {"starts": [list(self._starts.get(lane, (0, 0))) for lane in range(self.lanes)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._places = {}
        self._starts = {lane: (window, first) for lane, (window, first) in enumerate(state["starts"])}

    def _open(self, lane: int, window: int, first: int) -> _Place:
        corpus = self.data.window(lane, self.lanes, window)
        if not corpus.items:
            raise ModelError("no utterance here can be trained on: all end before their text is read", param="data")
        rng = np.random.default_rng([self.seed, lane, window])
        place = _Place(window, first, corpus, _paired_epoch(corpus, self.positions, self.pairing, rng))
        self._places[lane] = place
        return place


def _paired_epoch(corpus: Corpus, positions: int, pairing: Pairing, rng: np.random.Generator) -> list[list[Pair]]:
    items, tokenizer = corpus.items, corpus.tokenizer
    sizes = [item.frames + len(tokenizer.encode(item.text)) for item in items]
    candidates: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if item.frames <= pairing.max_frames:
            candidates.setdefault(item.speaker, []).append(index)
    prompts: list[int | None] = []
    for index, item in enumerate(items):
        others = candidates.get(item.speaker, [])
        drawn = others[rng.integers(len(others))] if others and rng.random() < pairing.share else index
        prompts.append(None if drawn == index else drawn)
    lengths = [own + (0 if p is None else sizes[p]) for own, p in zip(sizes, prompts, strict=True)]
    return [
        [(None if (p := prompts[i]) is None else items[p], items[i]) for i in batch]
        for batch in _one_epoch(lengths, positions, rng)
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
    if batch:
        epoch.append(batch)
    for which in rng.permutation(len(epoch)):
        yield epoch[which]
