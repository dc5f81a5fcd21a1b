"""What a contour network learns: the pitch that a corpus's recordings had, as its speakers' registers measure it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.melody.register import Register, measure, octaves
from sled_tts.model.training.batches import LatentFrames
from sled_tts.model.training.synthetic import PITCHES, CorpusItem, read_items, read_locked, read_pitches

# Of every speaker's utterances, one in so many is kept from training.
_HELD_OUT = 12


@dataclass(frozen=True)
class ContourBatch:
    """`latents [B, S, D]` are the codec's; `pitch [B, S]` is in standard deviations of octaves about the speaker's
    median; `voiced [B, S]` is 1 where there is one, 0 elsewhere and in the padding."""

    latents: Tensor
    pitch: Tensor
    voiced: Tensor


@dataclass(frozen=True)
class Intonation:
    """The utterances of a corpus whose pitch is known, and that pitch for every frame of the corpus."""

    train: list[CorpusItem]
    held_out: list[CorpusItem]
    latents: LatentFrames = field(repr=False)
    pitch: npt.NDArray[np.float32] = field(repr=False)
    voiced: npt.NDArray[np.float32] = field(repr=False)

    @classmethod
    def open(cls, corpus: Path, latents: Path, least_frames: float) -> Intonation:
        """Speakers with fewer than `least_frames` voiced frames are left out, and utterances without any. Raises
        ModelError for a corpus without pitches, for latents of another one, and when nobody is left."""
        items = list(read_items(corpus))
        track, data = require_pitches(corpus, items), np.load(latents, mmap_mode="r")
        if len(data) != len(track):
            raise ModelError(f"{latents} has {len(data)} frames, {corpus} has {len(track)}", param="corpus")
        pitch, voiced = np.zeros_like(track), np.zeros_like(track)
        by_speaker: dict[str, list[CorpusItem]] = {}
        for item in items:
            if track[_span(item)].any():
                by_speaker.setdefault(item.speaker, []).append(item)
        train, held_out = list[CorpusItem](), list[CorpusItem]()
        for own in by_speaker.values():
            heard = np.concatenate([track[_span(item)] for item in own])
            if np.count_nonzero(heard) < least_frames:
                continue
            register = measure(heard)
            for item in own:
                above, sure = octaves(track[_span(item)], register.hz)
                pitch[_span(item)] = np.where(sure, above / register.spread, 0.0)
                voiced[_span(item)] = sure
            own = [item for item in own if voiced[_span(item)].any()]
            held_out += own[_HELD_OUT - 1 :: _HELD_OUT]
            train += [item for number, item in enumerate(own, 1) if number % _HELD_OUT]
        if not train:
            raise ModelError(f"{corpus}: nobody is heard for {least_frames:.0f} voiced frames", param="melody")
        return cls(train, held_out, data, pitch, voiced)

    def batch(self, items: Sequence[CorpusItem]) -> ContourBatch:
        """Utterances padded together."""
        longest = max(item.frames for item in items)
        dims = self.latents[:1].shape[1]
        latents = np.zeros((len(items), longest, dims), dtype=np.float32)
        pitch, voiced = np.zeros((2, len(items), longest), dtype=np.float32)
        for row, item in enumerate(items):
            latents[row, : item.frames] = self.latents[_span(item)]
            pitch[row, : item.frames] = self.pitch[_span(item)]
            voiced[row, : item.frames] = self.voiced[_span(item)]
        return ContourBatch(torch.from_numpy(latents), torch.from_numpy(pitch), torch.from_numpy(voiced))

    def shares(self, weights: Mapping[str, float]) -> npt.NDArray[np.float64]:
        """How likely each utterance of `train` is drawn, by its speaker's weight (1 without one)."""
        wanted = np.array([weights.get(item.speaker, 1.0) for item in self.train])
        return np.asarray(wanted / wanted.sum(), dtype=np.float64)

    def describe(self) -> str:
        """What must not change when a run is resumed."""
        voiced = int(self.voiced.sum())
        return f"{len(self.train)} and {len(self.held_out)} utterances, {voiced} of {len(self.voiced)} frames voiced"


def require_pitches(corpus: Path, items: Sequence[CorpusItem]) -> npt.NDArray[np.float32]:
    """`read_pitches`. Raises ModelError when there are none, or not one for every frame."""
    track, frames = read_pitches(corpus), sum(item.frames for item in items)
    if track is None:
        why = "recordings whose pitch is locked have one, if they were prepared by this version"
        raise ModelError(f"{corpus} has no {PITCHES}: {why}; remove the folder to make it again", param="melody")
    if len(track) != frames:
        raise ModelError(f"{corpus / PITCHES} has {len(track)} values for {frames} frames", param="melody")
    return track


def speaker_registers(corpus: Path, speakers: Sequence[str]) -> dict[str, Register]:
    """By speaker, measured over all that a corpus has of each. Raises ModelError that names one who says too little."""
    items = list(read_items(corpus))
    track, locked = require_pitches(corpus, items), read_locked(corpus)
    found = {}
    for speaker in speakers:
        heard = [track[_span(item)] for item in items if item.speaker == speaker]
        try:
            found[speaker] = replace(measure(np.concatenate([track[:0], *heard])), locked_hz=locked.get(speaker))
        except ModelError as error:
            raise ModelError(f"voice.voices: {speaker!r}: {error}", param="voice.voices") from None
    return found


def _span(item: CorpusItem) -> slice:
    return slice(item.offset, item.offset + item.frames)
