"""Is a recording usable speech? Silence at its ends, its level, clipping. Numbers in dB below full scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import BadAudioError

_FRAME_S, _MARGIN_S = 0.02, 0.1
# A frame counts as sound above both: a floor that no microphone undercuts in a room, and a distance to the loudest.
_FLOOR_DB, _BELOW_LOUDEST_DB = -55.0, 40.0
_SILENT_DB = -50.0
# Levels in this range stay as they are: what is usual for speech corpora. Others are brought to the target.
_USUAL_DB, _TARGET_DB, _PEAK = (-32.0, -14.0), -20.0, 0.97
# Flat tops: this many samples in a row at the very peak, and this share of all sounding samples in such runs.
_RUN, _AT_PEAK, _CLIPPED_SHARE = 3, 0.9995, 1e-3


@dataclass(frozen=True)
class Levelled:
    """Speech without the silence around it, at a usual level. `gain_db` is what was added."""

    pcm: Float32
    gain_db: float


def level_speech(pcm: Float32, rate: int, param: str = "ref_audio") -> Levelled:
    """Trim, check and level mono samples `[N]` at `rate` Hz. Raises BadAudioError for silence and for clipping."""
    pcm = pcm - np.float32(pcm.mean()) if pcm.size else pcm
    loud = _sounding(pcm, rate)
    if not loud.any():
        raise BadAudioError(
            f"{param} is silent: its loudest part is below {_SILENT_DB:g} dB of full scale", param=param
        )
    share = clipped_share(pcm)
    if share > _CLIPPED_SHARE:
        raise BadAudioError(
            f"{param} is clipped: {share:.1%} of its samples lie flat at the peak; record it at a lower level",
            param=param,
        )
    frame = int(rate * _FRAME_S)
    heard = np.flatnonzero(loud)
    margin = int(rate * _MARGIN_S)
    first, last = max(0, heard[0] * frame - margin), (heard[-1] + 1) * frame + margin
    level = 10 * np.log10(np.mean(_power(pcm, frame)[loud]))
    gain = 1.0
    if not _USUAL_DB[0] <= level <= _USUAL_DB[1]:
        gain = min(10 ** ((_TARGET_DB - level) / 20), _PEAK / float(np.abs(pcm).max()))
    return Levelled(np.ascontiguousarray(pcm[first:last] * np.float32(gain)), 20 * float(np.log10(gain)))


def clipped_share(pcm: Float32) -> float:
    """Share of samples that lie in flat runs at the positive or negative peak."""
    if pcm.size == 0:
        return 0.0
    flat = 0
    for side in (pcm, -pcm):
        peak = float(side.max())
        if peak > 0:
            flat += _in_runs(side >= _AT_PEAK * peak)
    return flat / pcm.size


def _in_runs(mask: npt.NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= _RUN].sum())


def _power(pcm: Float32, frame: int) -> npt.NDArray[np.float64]:
    """Mean square of each whole frame; a last part counts as one, filled up with silence."""
    padded = np.pad(pcm, (0, -len(pcm) % frame)).astype(np.float64)
    return np.asarray(np.square(padded).reshape(-1, frame).mean(axis=1) + 1e-12)


def _sounding(pcm: Float32, rate: int) -> npt.NDArray[np.bool_]:
    """Which frames are not silence; none when the whole recording is."""
    if pcm.size == 0:
        return np.zeros(0, dtype=np.bool_)
    level = 10 * np.log10(_power(pcm, int(rate * _FRAME_S)))
    if float(level.max()) < _SILENT_DB:
        return np.zeros(level.size, dtype=np.bool_)
    return np.asarray(level > max(_FLOOR_DB, float(level.max()) - _BELOW_LOUDEST_DB))
