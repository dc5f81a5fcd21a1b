"""What gives speech in a cloned voice the loudness of its recording, in each band and at each level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sled_tts.model.melody.dynamics import Dynamics, DynamicsStream, Float32, levels, smoothed, spectra_of
from sled_tts.model.melody.envelope import Envelope

WINDOW = 256
# Percentiles of levels that become those of the recording.
_SHARES = (2.0, 10.0, 25.0, 50.0, 75.0, 90.0, 97.0, 99.5)
_LEAST_GAIN_DB, _MOST_GAIN_DB = -20.0, 15.0
# What is quieter than a quarter is pauses, and gains no more than that: a recording's noise is not its voice.
_QUARTER = 2
# Windows overlap and neighbours count, so that gains do not reach what they ask for at once.
_ROUNDS = 3


def likened(said: Sequence[Float32], recorded: Float32, envelope: Envelope | None = None) -> Dynamics:
    """`said`: sounds `[N]` of a voice, `recorded [N]`: its recording, at the same rate and level.

    In each band the levels of `said` become distributed as those of `recorded`, in their order: the optimal transport
    of one dimension (in recognition, where it is called histogram equalisation: de la Torre et al. 2005). Nothing gains
    more than 15 dB or loses more than 20, beside what its `envelope` gains.
    """
    loud = sound_levels(said)
    theirs = _distribution(loud if envelope is None else loud + envelope.gains(loud))
    wanted = _distribution(sound_levels([recorded]))
    found = Dynamics(theirs, np.zeros_like(theirs), envelope)
    for _ in range(_ROUNDS):
        reached = _distribution(sound_levels([DynamicsStream(found, 1).push(wave, final=True) for wave in said]))
        gains = np.clip(found.gains_db + wanted - reached, _LEAST_GAIN_DB, _MOST_GAIN_DB)
        gains[:_QUARTER] = np.minimum(gains[:_QUARTER], gains[_QUARTER])
        found = Dynamics(theirs, gains, envelope)
    return found


def sound_levels(waves: Sequence[Float32]) -> Float32:
    """Levels `[F, WINDOW / 2 + 1]` of the windows of all waves."""
    return np.concatenate([smoothed(levels(spectra_of(wave, WINDOW))) for wave in waves])


def _distribution(loud: Float32) -> Float32:
    """`[K, WINDOW / 2 + 1]`."""
    return np.asarray(np.percentile(loud, _SHARES, axis=0), dtype=np.float32)
