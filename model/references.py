"""A recording as a checkpoint knows speech, and its latents: what prompts and cloned voices are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sled_tts.model.bundle import ModelBundle, ModelExtras
from sled_tts.model.calibration import Float32
from sled_tts.model.melody.register import Register, measure, nearest_pitch


def as_known(bundle: ModelBundle, wave: Float32) -> Float32:
    """Samples `[N]` at the codec's rate as the checkpoint has heard speech in training: at one of its constant pitches
    and at its level, if it has any. ModelError when nothing in it is voiced."""
    extras, rate = bundle.extras, bundle.codec.config.sampling_rate
    known = wave
    if extras.pitches_hz:
        # Here, so that checkpoints that take any speech do not need WORLD.
        from sled_tts.model.pitch import lock_pitch, median_voiced, pitch_track

        exact = wave.astype(np.float64)
        tracked = pitch_track(exact, rate)
        known = lock_pitch(exact, rate, _locked(extras, median_voiced([tracked[0]])), tracked).astype(np.float32)
    return at_level(bundle, known)


def register_of(bundle: ModelBundle, wave: Float32) -> Register | None:
    """Where the pitch of samples `[N]` at the codec's rate lies; None for a checkpoint without a melody. ModelError
    when almost nothing in it is voiced."""
    if bundle.extras.melody is None:
        return None
    # Here, as in `as_known`.
    from sled_tts.model.pitch import median_voiced, pitch_track

    track = pitch_track(wave.astype(np.float64), bundle.codec.config.sampling_rate)[0]
    return replace(measure(track), locked_hz=_locked(bundle.extras, median_voiced([track])))


def _locked(extras: ModelExtras, median_hz: float) -> float:
    """The pitch at which speech of this median is heard by a checkpoint that knows few."""
    return extras.reference_pitch_hz or nearest_pitch(median_hz, extras.pitches_hz)


@torch.inference_mode()
def encode_recording(bundle: ModelBundle, wave: Float32) -> Tensor:
    """Samples `[N]` at the codec's rate, already `as_known`, to codec latents `[ceil(N / hop), D]` as the network was
    trained on them: sums of codes, or what the encoder gives."""
    codec = bundle.codec
    given = torch.from_numpy(np.ascontiguousarray(wave))[None, None].to(bundle.sled.cos.device)
    return (codec.encode(given) if bundle.extras.quantised else codec.encode_unquantised(given))[0]


def at_level(bundle: ModelBundle, wave: Float32) -> Float32:
    """Samples `[N]` as loud as all speech in training was, where it had one level."""
    level = bundle.extras.speech_level
    if level:
        gain = level / max(float(np.sqrt(np.square(wave).mean())), 1e-5)
        wave = wave * np.float32(min(gain, 0.95 / max(float(np.abs(wave).max()), 1e-5)))
    return np.ascontiguousarray(wave, dtype=np.float32)
