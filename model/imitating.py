"""What a network makes of a voice that it imitates, listened to: how it is brought nearer to the recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from sled_tts.model.bundle import ModelBundle
from sled_tts.model.calibration import Calibration, Float32
from sled_tts.model.errors import ModelError
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.envelope import Envelope
from sled_tts.model.melody.likening import likened
from sled_tts.model.melody.register import Register, corrected
from sled_tts.model.melody.reshaping import reshaped
from sled_tts.model.opening import find_opening
from sled_tts.model.paired import paired_levels
from sled_tts.model.reciting import pieces
from sled_tts.model.references import at_level, register_of
from sled_tts.model.speaking import Line, melodised, sound_of, speak_lines

# Every sound of English comes several times.
_SENTENCES = (
    "Bright yellow leaves were falling on the garden path.",
    "She thought the voyage would take about five months.",
    "Keep the old brown shoes beside the kitchen door.",
    "Nobody could measure how much water was left.",
    "The young judge asked him why he had just arrived.",
    "Our neighbour's dog chases birds for pure joy.",
    "A huge crowd watched the ship leave the harbour.",
    "Please pass the sugar and the fresh white cheese.",
    "He found both of these coins under the floor.",
    "Few people travel so far north in such weather.",
    "My father usually bought good apples on Thursday.",
    "The thin boy laughed, then ran across the wide road.",
)

_BATCH = 16
# Fewer say nothing of how a voice sounds.
_LEAST_FRAMES = 50
# The transcript is recited in pieces of so many words, each time with other borders, which a network says differently.
_PIECE = 4
_FIRST = (1, 2, 3, 4)
# Of the level of all speech: windows that gain most must not be cut off at full scale.
_HEADROOM = 0.7


@dataclass(frozen=True)
class Recorded:
    """A voice as somebody gave it: `latents [S, D]`, the codec's, of a recording that says `text`; its samples
    `wave [N]` at the codec's rate, and where its pitch lies, without which no sound is compared."""

    latents: Float32
    text: str
    wave: Float32
    register: Register | None = None


@torch.inference_mode()
def calibrate(bundle: ModelBundle, given: Recorded) -> Calibration:
    """Listen to what the network makes of a voice, and return what brings it nearer; the same for the same voice.

    Blocking: some sentences are spoken, about 33 seconds of speech, and the transcript of the recording several times.
    ModelError when too little is said to tell, or when the recording leaves no room for a sentence.
    """
    recorded = given.latents
    opening = find_opening(bundle, given.wave, recorded, given.text)
    if bundle.extras.melody is None or given.register is None:
        return Calibration(opening)
    frames, letters = (len(recorded), len(given.text)) if opening is None else (opening.frames, opening.letters)
    imitation = Imitation(bundle, recorded[:frames], given.text[:letters], bundle.extras.cloned_cfg_scale)
    hz, dynamics = imitation.likened(given.text, given.wave, given.register)
    return Calibration(opening, hz, dynamics)


@dataclass(frozen=True)
class Imitation:
    """`bundle` going on from `prompt [S, D]`, the codec's latents, which say `told`, with a guidance of `cfg_scale`.
    `share`: how much of what its resonances lack they are given."""

    bundle: ModelBundle
    prompt: Float32 = field(repr=False)
    told: str
    cfg_scale: float
    share: float = 1.0

    def likened(self, text: str, wave: Float32, wanted: Register) -> tuple[float, Dynamics]:
        """Where the melody must lie, and what becomes of the sound, to be like a recording `wave [N]`, but for its
        level, that says `text` at the pitch `wanted`. ModelError when too little is said to tell."""
        wave = np.float32(_HEADROOM) * at_level(self.bundle, wave)
        speech = self._say(_SENTENCES)
        if sum(map(len, speech)) < _LEAST_FRAMES:
            raise ModelError(f"the network says too few frames to tell how it sounds, {_LEAST_FRAMES} are needed")
        flat = self._decoded(speech)
        register = _placed(self.bundle, wanted, self._sounds(speech, flat, wanted))
        envelope = self._envelope(text, wave, register)
        return register.hz, likened(self._sounds(speech, flat, register), wave, envelope)

    def _envelope(self, text: str, wave: Float32, register: Register) -> Envelope | None:
        """From the transcript, recited. None where too little corresponds to tell, and for words that are too long to
        be said."""
        rate = self.bundle.codec.config.sampling_rate
        pairs = list[tuple[Float32, Float32]]()
        try:
            for first in _FIRST:
                recital = self._say(pieces(text, range(first, len(text.split()), _PIECE)))
                sounds = self._sounds(recital, self._decoded(recital), register)
                pairs.append(paired_levels(sounds, wave, rate))
            said_levels, recorded_levels = (np.concatenate(part) for part in zip(*pairs, strict=True))
            return Envelope(np.float32(self.share) * reshaped(said_levels, recorded_levels).gains_db)
        except (ValueError, ModelError):
            return None

    def _say(self, texts: Sequence[str]) -> list[Float32]:
        """The codec's latents `[S, D]` of each of `texts`; without those of which it says nothing."""
        prompt = self.bundle.normalise(torch.from_numpy(self.prompt))
        lines = [Line(text, prompt, self.told) for text in texts]
        said = speak_lines(self.bundle, lines, cfg_scale=self.cfg_scale, seed=0, batch=_BATCH)
        return [self.bundle.denormalise(one.latents).numpy() for one in said if len(one.latents)]

    def _decoded(self, written: Sequence[Float32]) -> list[Float32]:
        """How they sound at one pitch."""
        return [sound_of(self.bundle, torch.from_numpy(part), None) for part in written]

    def _sounds(self, written: Sequence[Float32], flat: Sequence[Float32], register: Register) -> list[Float32]:
        """How those that were decoded to `flat` sound, without the checkpoint's expansion."""
        plain, parts = self.bundle.without_expansion(), zip(written, flat, strict=True)
        return [melodised(plain, wave, torch.from_numpy(part), register, 0) for part, wave in parts]


def _placed(bundle: ModelBundle, wanted: Register, sounds: Sequence[Float32]) -> Register:
    """Where the melody must lie; where it was to lie when nothing voiced is heard."""
    try:
        heard = register_of(bundle, np.concatenate(sounds))
    except ModelError:
        return wanted
    return wanted if heard is None else corrected(wanted, heard)
