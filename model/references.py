"""A recording as a checkpoint knows speech, and its latents: what prompts and cloned voices are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sled_tts.model.bundle import ModelBundle
from sled_tts.model.calibration import Calibration, Float32, match, voiced_frames
from sled_tts.model.melody.likening import likened
from sled_tts.model.melody.register import Register, measure, nearest_pitch
from sled_tts.model.opening import find_opening
from sled_tts.model.speaking import Line, sound_of, speak_lines

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


def as_known(bundle: ModelBundle, wave: Float32) -> Float32:
    """Samples `[N]` at the codec's rate as the checkpoint has heard speech in training: at the nearest of its constant
    pitches and at its level, if it has any. ModelError when nothing in it is voiced."""
    extras, rate = bundle.extras, bundle.codec.config.sampling_rate
    known = wave
    if extras.pitches_hz:
        # Here, so that checkpoints that take any speech do not need WORLD.
        from sled_tts.model.pitch import lock_pitch, median_voiced, pitch_track

        exact = wave.astype(np.float64)
        tracked = pitch_track(exact, rate)
        pitch = nearest_pitch(median_voiced([tracked[0]]), extras.pitches_hz)
        known = lock_pitch(exact, rate, pitch, tracked).astype(np.float32)
    return _at_level(bundle, known)


def register_of(bundle: ModelBundle, wave: Float32) -> Register | None:
    """Where the pitch of samples `[N]` at the codec's rate lies; None for a checkpoint without a melody. ModelError
    when almost nothing in it is voiced."""
    if bundle.extras.melody is None:
        return None
    # Here, as in `as_known`.
    from sled_tts.model.pitch import median_voiced, pitch_track

    track = pitch_track(wave.astype(np.float64), bundle.codec.config.sampling_rate)[0]
    return replace(measure(track), locked_hz=nearest_pitch(median_voiced([track]), bundle.extras.pitches_hz))


@torch.inference_mode()
def encode_recording(bundle: ModelBundle, wave: Float32) -> Tensor:
    """Samples `[N]` at the codec's rate, already `as_known`, to codec latents `[ceil(N / hop), D]` as the network was
    trained on them: sums of codes, or what the encoder gives."""
    codec = bundle.codec
    given = torch.from_numpy(np.ascontiguousarray(wave))[None, None].to(bundle.sled.cos.device)
    return (codec.encode(given) if bundle.extras.quantised else codec.encode_unquantised(given))[0]


@dataclass(frozen=True)
class Recorded:
    """A voice as somebody gave it: `latents [S, D]`, the codec's, of a recording that says `text`; its samples
    `wave [N]` at the codec's rate, and where its pitch lies, without which only latents are compared."""

    latents: Float32
    text: str
    wave: Float32
    register: Register | None = None


@torch.inference_mode()
def calibrate(bundle: ModelBundle, given: Recorded, *, cfg_scale: float = 2.0) -> Calibration:
    """Listen to what the network makes of a voice, and return what brings it nearer; the same for the same voice.

    Blocking: some sentences are spoken, about 33 seconds of speech, and the transcript of a long recording several
    times. ModelError when too little is said to tell, or when the recording leaves no room for a sentence.
    """
    recorded, text = given.latents, given.text
    opening = find_opening(bundle, given.wave, recorded, text, cfg_scale)
    heard = sound_of(bundle, torch.from_numpy(recorded), None)
    frames, letters = (len(recorded), len(text)) if opening is None else (opening.frames, opening.letters)
    prompt = bundle.normalise(torch.from_numpy(recorded[:frames]))
    lines = [Line(sentence, prompt, text[:letters]) for sentence in _SENTENCES]
    said = [u for u in speak_lines(bundle, lines, cfg_scale=cfg_scale, seed=0) if len(u.latents)]
    written = [bundle.denormalise(u.latents).numpy() for u in said]
    voiced = [voiced_frames(latents, u.wave) for latents, u in zip(written, said, strict=True)]
    found = match(np.concatenate([recorded[:0], *voiced]), voiced_frames(recorded, heard))
    found = replace(found, opening=opening)
    if bundle.extras.melody is None or given.register is None:
        return found
    plain = bundle.without_expansion()
    nearer = [torch.from_numpy(latents @ found.turn.T + found.shift) for latents in written]
    sounds = [sound_of(plain, latents, given.register) for latents in nearer]
    return replace(found, dynamics=likened(sounds, _at_level(bundle, given.wave)))


def _at_level(bundle: ModelBundle, wave: Float32) -> Float32:
    level = bundle.extras.speech_level
    if level:
        gain = level / max(float(np.sqrt(np.square(wave).mean())), 1e-5)
        wave = wave * np.float32(min(gain, 0.95 / max(float(np.abs(wave).max()), 1e-5)))
    return np.ascontiguousarray(wave, dtype=np.float32)
