"""What moves the spectral envelope of a cloned voice to where its recording has it: found from moments at which both
say the same.

A network that leans towards other voices gives vowels their resonances. By how much the vocal tract is longer or
shorter is told by stretching spectra until they change as the recording's do (Lee and Rose, "A frequency warping
approach to speaker normalization", 1998); what remains, in part, by a regression of cepstra (Stylianou, Cappé and
Moulines, "Continuous probabilistic transform for voice conversion", 1998, with a single component).
"""

from __future__ import annotations

import numpy as np

from sled_tts.model.melody.envelope import Envelope, Float32, Float64, cosines, into_cepstrum

_COEFFICIENTS = 30
_STRETCHES = np.arange(0.84, 1.161, 0.02)
# Of all bands: below are the loudest harmonics, above is noise.
_COMPARED = (0.03, 0.86)
# How far towards what the regression finds: the rest costs more words than it brings likeness.
_SHARE = 0.5
# Of the variance of each coefficient, which keeps few moments from inventing something.
_RIDGE = 0.03
# Fewer tell less than there are coefficients.
LEAST_MOMENTS = 4 * _COEFFICIENTS


def reshaped(said: Float32, recorded: Float32) -> Envelope:
    """`said`, `recorded [P, B]`: levels in dB, as `dynamics.smoothed` gives them, of moments at which both say the
    same. ValueError for fewer than 120."""
    if said.shape != recorded.shape or len(said) < LEAST_MOMENTS:
        raise ValueError(f"{len(said)} and {len(recorded)} moments, {LEAST_MOMENTS} pairs are needed")
    bands = said.shape[1]
    into, out = into_cepstrum(bands, _COEFFICIENTS), cosines(bands, _COEFFICIENTS)
    ours, theirs = said.astype(np.float64) @ into.T, recorded.astype(np.float64) @ into.T
    stretched = _stretched(out, stretch_of(ours, theirs, out))
    again = stretched @ into.T
    turn, shift = _regression(ours @ again, theirs)
    moved = again @ (turn - np.eye(_COEFFICIENTS)) @ out
    rows = [stretched - out + _SHARE * moved, _SHARE * (shift @ out)[None]]
    return Envelope(np.concatenate(rows).astype(np.float32))


def stretch_of(ours: Float64, theirs: Float64, out: Float64) -> float:
    """By how much the resonances of cepstra `ours [P, C]` must move up to be where `theirs` are, between 0.84 and 1.16;
    `out [C, B]` are their cosines. Compared is how bands change, not how loud they are, which has other causes too."""
    first, after = (round(share * out.shape[1]) for share in _COMPARED)
    wanted = _standardised((theirs @ out)[:, first:after])
    apart = [
        float(np.square(_standardised((ours @ _stretched(out, by))[:, first:after]) - wanted).mean())
        for by in _STRETCHES
    ]
    best = int(np.clip(np.argmin(apart), 1, len(apart) - 2))
    bend, slope, _ = np.polyfit(_STRETCHES[best - 1 : best + 2], apart[best - 1 : best + 2], 2)
    vertex = -slope / (2 * bend) if bend > 0 else _STRETCHES[best]
    return float(np.clip(vertex, _STRETCHES[0], _STRETCHES[-1]))


def _stretched(out: Float64, by: float) -> Float64:
    """`[C, B]` with each row's features at `by` times their frequency."""
    bands = np.arange(out.shape[1])
    return np.stack([np.interp(bands / by, bands, row) for row in out])


def _regression(ours: Float64, theirs: Float64) -> tuple[Float64, Float64]:
    """`turn [C, C]`, `shift [C]`: `ours @ turn + shift` is nearest to `theirs`, and `turn` near the identity."""
    mean, wanted = ours.mean(axis=0), theirs.mean(axis=0)
    centred = ours - mean
    ridge = np.diag(_RIDGE * len(ours) * centred.var(axis=0) + 1e-9)
    turn = np.linalg.solve(centred.T @ centred + ridge, centred.T @ (theirs - wanted) + ridge)
    return np.asarray(turn), np.asarray(wanted - mean @ turn)


def _standardised(levels: Float64) -> Float64:
    return np.asarray((levels - levels.mean(axis=0)) / (levels.std(axis=0) + 1e-9))
