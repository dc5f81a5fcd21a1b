"""How much of a recording a network goes on from: no more than it was trained with, and up to a pause between words.

After a prompt longer than those of training it speaks less clearly (docs/decisions/0015-openings.md). Which words come
before a pause nobody says, so the checkpoint says the transcript itself, in pieces, and these are found in the
recording, as texts are aligned with readings of them by way of synthetic speech (Malfrère and Dutoit, "High-quality
speech synthesis for phonetic speech segmentation", 1997).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from sled_tts.model.bundle import ModelBundle
from sled_tts.model.calibration import Opening
from sled_tts.model.config import DEFAULT_CFG_SCALE
from sled_tts.model.errors import ModelError
from sled_tts.model.reciting import pieces, word_ends
from sled_tts.model.speaking import Line, speak_lines
from sled_tts.model.time_warping import STEP_S, Float32, Sounding, corresponding

# Of the most that a network goes on from: less says too little of a voice.
_LEAST_PART = 0.4
# A piece's words; pieces begin at another word each time, so that every border between words is between two.
_PIECE = 3
# What holds a border is spoken twice: one that is elsewhere the second time has not been found.
_SEEDS = (0, 1000)
# Steps of 10 ms between a border and the pause that is there; and how much nearer than any other border it must be,
# since words like "the" last no longer.
_NEAR, _SURE = 5, 4
# A closure of a stop is shorter.
_LEAST_PAUSE = 6
# How much of a pause still belongs to what was said before it.
_LEFT_S = 0.1


@dataclass(frozen=True)
class _Pause:
    """Before the step `place` of those that sound."""

    place: int
    begin_s: float
    length_s: float


@dataclass(frozen=True)
class Recitation:
    """A checkpoint that says the transcript `text` of `wave [N]`, at its codec's rate, in pieces: in its default voice,
    or after the recording itself, of `latents [S, D]`."""

    bundle: ModelBundle
    wave: Float32 = field(repr=False)
    latents: Float32 = field(repr=False)
    text: str = field(repr=False)

    @property
    def _rate(self) -> int:
        return self.bundle.codec.config.sampling_rate

    @cached_property
    def _recorded(self) -> Sounding:
        return Sounding.of(self.wave, self._rate)

    @cached_property
    def ends(self) -> list[int]:
        """Where each word ends, in characters."""
        return word_ends(self.text)

    def pauses(self) -> list[_Pause]:
        steps = self._recorded.steps
        return [
            _Pause(place, (steps[place - 1] + 1) * STEP_S, (steps[place] - steps[place - 1] - 1) * STEP_S)
            for place in range(1, len(steps))
            if steps[place] - steps[place - 1] - 1 >= _LEAST_PAUSE
        ]

    def borders(self, first: int, seed: int) -> dict[int, int]:
        """For pieces that begin at word `first`: how many words come before each border, and at which of the steps that
        sound it is. ValueError when nothing is heard."""
        own = self.bundle.extras.voices[0] if self.bundle.extras.voices else None
        told, heard = (self.text, torch.from_numpy(self.latents)) if own is None else (own.text, own.latents)
        prompt = self.bundle.normalise(heard.float())
        inner = range(first, len(self.ends), _PIECE)
        lines = [Line(piece, prompt, told) for piece in pieces(self.text, inner)]
        spoken = speak_lines(self.bundle, lines, cfg_scale=DEFAULT_CFG_SCALE, seed=seed)
        parts = [Sounding.of(piece.wave, self._rate) for piece in spoken]
        places = np.cumsum([len(part.steps) for part in parts])[:-1]
        found = corresponding(Sounding.one_after_another(parts), self._recorded, places.tolist())
        return dict(zip(inner, found, strict=True))


def find_opening(bundle: ModelBundle, wave: Float32, latents: Float32, text: str) -> Opening | None:
    """The place to stop in a recording: `wave [N]` at the codec's rate, its `latents [S, D]`, what it says.

    None for one that is no longer than the checkpoint goes on from (`max_prompt_s`), and where no pause is found that
    is surely between two words. Blocking: the transcript is spoken four times or more.
    """
    most_s, codec = bundle.extras.max_prompt_s, bundle.codec.config
    if most_s is None or len(wave) <= most_s * codec.sampling_rate:
        return None
    recitation = Recitation(bundle, wave, latents, text)
    try:
        found = _longest_pause(recitation, most_s)
    except (ValueError, ModelError):  # the checkpoint or the recording is silent, or a word fills all positions
        return None
    if found is None:
        return None
    words, end_s = found
    return Opening(round(end_s * codec.frame_rate), recitation.ends[words - 1])


def _longest_pause(recitation: Recitation, most_s: float) -> tuple[int, float] | None:
    """Of those that are surely between two words: how many words come before it, and until when."""
    within = [pause for pause in recitation.pauses() if _LEAST_PART * most_s <= _end_s(pause) <= most_s]
    if not within or len(recitation.ends) < 2:
        return None
    once = dict[int, int]()
    for first in range(1, _PIECE + 1):
        once |= recitation.borders(first, _SEEDS[0])
    for pause in sorted(within, key=lambda pause: -pause.length_s):
        nearest, *others = sorted(once, key=lambda words: abs(once[words] - pause.place))
        away = abs(once[nearest] - pause.place)
        if away > _NEAR or any(abs(once[other] - pause.place) - away < _SURE for other in others[:1]):
            continue
        again = recitation.borders((nearest - 1) % _PIECE + 1, _SEEDS[1])
        if abs(again[nearest] - pause.place) <= _NEAR:
            return nearest, _end_s(pause)
    return None


def _end_s(pause: _Pause) -> float:
    return pause.begin_s + min(_LEFT_S, pause.length_s / 2)
