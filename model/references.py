"""A recording as a checkpoint knows speech, and its latents: what prompts and cloned voices are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sled_tts.model.bundle import ModelBundle

Float32 = npt.NDArray[np.float32]


def as_known(bundle: ModelBundle, wave: Float32) -> Float32:
    """Samples `[N]` at the codec's rate as the checkpoint has heard speech in training: at the nearest of its constant
    pitches and at its level, if it has any. ModelError when nothing in it is voiced."""
    extras, rate = bundle.extras, bundle.codec.config.sampling_rate
    known = wave
    if extras.pitches_hz:
        # Here, so that checkpoints that take any speech do not need WORLD.
        from sled_tts.model.pitch import lock_pitch, median_pitch, nearest_pitch

        exact = wave.astype(np.float64)
        pitch = nearest_pitch(median_pitch([exact], rate), extras.pitches_hz)
        known = lock_pitch(exact, rate, pitch).astype(np.float32)
    if extras.speech_level:
        gain = extras.speech_level / max(float(np.sqrt(np.square(known).mean())), 1e-5)
        known = known * np.float32(min(gain, 0.95 / max(float(np.abs(known).max()), 1e-5)))
    return np.ascontiguousarray(known, dtype=np.float32)


@torch.inference_mode()
def encode_recording(bundle: ModelBundle, wave: Float32) -> Tensor:
    """Samples `[N]` at the codec's rate, already `as_known`, to codec latents `[ceil(N / hop), D]` as the network was
    trained on them: sums of codes, or what the encoder gives."""
    codec = bundle.codec
    given = torch.from_numpy(np.ascontiguousarray(wave))[None, None].to(bundle.sled.cos.device)
    return (codec.encode(given) if bundle.extras.quantised else codec.encode_unquantised(given))[0]
