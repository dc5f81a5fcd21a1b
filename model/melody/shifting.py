"""Another pitch for speech whose pitch is constant and known: pitch-synchronous overlap-add of its periodic part.

TD-PSOLA (Moulines and Charpentier, "Pitch-synchronous waveform processing techniques for text-to-speech synthesis using
diphones", 1990) cuts windows of two periods and lays them out at other distances: durations and spectral envelope stay.
What makes it difficult elsewhere, to find the periods, is known here: the pitch is constant and locked to the frames.
So is what repeats from period to period; the rest is noise, which overlapping copies would comb, and stays where it is
(as in harmonic-plus-noise models, Stylianou 1996). At the pitch that is there already nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

# Beyond, periods are repeated or left out so often that it is heard.
RATIOS = (0.6, 1.8)
# A pulse's energy comes after its beginning, which is what is locked to the frames (`model.pitch`).
_PULSE_S = 0.0015
_PHASES, _TAPS = 64, 16
_BEFORE = _TAPS // 2 - 1
# How alike neighbouring periods are where nothing and where all that they share is taken for voiced.
_ALIKE = (0.3, 0.7)
_EPS = 1e-6


def _fractions() -> Float32:
    """Taps `[phases, taps]` that read a signal between samples: windowed sinc."""
    at = np.arange(_TAPS) - _BEFORE - np.arange(_PHASES)[:, None] / _PHASES
    taps = np.sinc(at) * (0.5 + 0.5 * np.cos(np.pi * np.clip(at / (_TAPS // 2 + 0.5), -1, 1)))
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), dtype=np.float32)


_READ = _fractions()


class PitchShifter:
    """One utterance's sound, shifted as it arrives; the same samples however it arrives.

    `period`: of the pitch that is there, in samples, of which a whole number of periods make `hop` samples. All but the
    last `delay` samples of what has arrived can be returned.
    """

    def __init__(self, period: float, hop: int, rate: int) -> None:
        self._period, self._hop = period, hop
        self.delay = math.ceil(3 * period / hop - _EPS) * hop
        self._pulse = _PULSE_S * rate
        self._reach = math.ceil(period) + 1
        self._margin = 4 * self._reach + _TAPS
        # Samples from `_from` on: what arrived, what is left of it without its periodic part, and that laid out anew.
        self._from = -self._margin
        self._x = np.zeros(self._margin, dtype=np.float32)
        self._rest = np.zeros(self._margin + self._reach, dtype=np.float32)
        self._voiced = np.zeros(self._margin + self._reach, dtype=np.float32)
        self._arrived = self._returned = 0
        self._ratios: list[float] = []
        self._next = -math.ceil(self._pulse / period + 1)
        self._mark = self._pulse + self._next * period
        self._periods: dict[int, Float32] = {}

    def push(self, samples: Float32, ratios: Sequence[float], final: bool) -> Float32:
        """Whole frames, and for each the ratio of the pitch wanted in its middle to the one that is there; returns what
        is finished, all that is missing if this is the `final` call."""
        if len(samples) != len(ratios) * self._hop:
            raise ValueError(f"{len(samples)} samples are not {len(ratios)} frames of {self._hop}")
        self._ratios += [min(max(ratio, RATIOS[0]), RATIOS[1]) for ratio in ratios]
        more, at = np.zeros(len(samples), dtype=np.float32), self._arrived - self._from
        self._x = np.concatenate([self._x, samples])
        self._rest, self._voiced = np.concatenate([self._rest, more]), np.concatenate([self._voiced, more])
        self._rest[at : at + len(samples)] += samples
        self._arrived += len(samples)
        if self._ratios:
            self._part(final)
            self._lay_out(self._marks(final))
        return self._finished(self._arrived if final else max(self._arrived - self.delay, self._returned))

    def _finished(self, end: int) -> Float32:
        span = slice(self._returned - self._from, end - self._from)
        out = self._rest[span] + self._voiced[span]
        self._returned = end
        drop = max(0, end - self._margin - self._from)
        self._x, self._rest, self._voiced = self._x[drop:], self._rest[drop:], self._voiced[drop:]
        self._from += drop
        return out

    def _part(self, final: bool) -> None:
        """Take the periodic part of all periods that are there, with the next one, out of the rest."""
        until = self._arrived + self._period if final else self._arrived - 2 * self._period + _EPS
        last = math.floor((until - self._pulse) / self._period)
        if last < self._next:
            return
        index = np.arange(self._next, last + 1)
        self._next = last + 1
        place = self._pulse + index * self._period
        on = np.floor(place + 0.5)
        away = (np.arange(-self._reach, self._reach + 1) + (on - place)[:, None]) / self._period
        window = np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip(away, -1, 1)), dtype=np.float32)
        known = np.floor(place + 2 * self._period)
        there = np.concatenate([on, on - self._period, on + self._period])
        own, before, after = np.split(self._read(there, np.tile(known, 3)), 3)
        own, beside = own * window, (before + after) * window
        alike = 0.5 * (own * beside).sum(axis=1) / ((own * own).sum(axis=1) + 1e-7)
        share = np.clip((alike - _ALIKE[0]) / (_ALIKE[1] - _ALIKE[0]), 0, 1).astype(np.float32)
        periodic = (0.5 * own + 0.25 * beside) * share[:, None]
        for number, at, grain in zip(index.tolist(), on.astype(int).tolist(), periodic, strict=True):
            self._add(self._rest, at, -grain)
            self._periods[number] = grain

    def _read(self, at: npt.NDArray[np.float64], known: npt.NDArray[np.float64]) -> Float32:
        """Samples about the places `at [N]`, `[N, 2 * reach + 1]`; those after `known` count as silence."""
        whole = np.floor(at)
        phase = np.rint((at - whole) * _PHASES).astype(int)
        whole, phase = whole + phase // _PHASES, phase % _PHASES
        width = 2 * self._reach + 1
        wanted = whole[:, None] - self._reach - _BEFORE + np.arange(width + _TAPS - 1)
        there = (wanted >= self._from) & (wanted <= known[:, None]) & (wanted < self._arrived)
        held = np.where(there, self._x[np.where(there, wanted - self._from, 0).astype(int)], np.float32(0))
        return _between(held, phase)

    def _marks(self, final: bool) -> list[tuple[float, float, int]]:
        """Pulses of the answer whose period is there: place, ratio, and which period it is."""
        found: list[tuple[float, float, int]] = []
        # In the second half of the last frame, pitch depends on the next one.
        end = self._arrived + (self._period if final else -0.5 * self._hop)
        while self._mark < end:
            number = math.floor((self._mark - self._pulse) / self._period + _EPS)
            if number >= self._next:
                break
            ratio = self._ratio(self._mark)
            found.append((self._mark, ratio, number))
            self._mark += self._period / ratio
        return found

    def _ratio(self, at: float) -> float:
        frame, last = at / self._hop - 0.5, len(self._ratios) - 1
        index = math.floor(frame)
        before, after = self._ratios[min(max(index, 0), last)], self._ratios[min(max(index + 1, 0), last)]
        return before + (after - before) * (frame - index)

    def _lay_out(self, marks: Sequence[tuple[float, float, int]]) -> None:
        if not marks:
            return
        place, ratio = np.array([mark[0] for mark in marks]), np.array([mark[1] for mark in marks])
        source = self._pulse + np.array([mark[2] for mark in marks]) * self._period
        # Grains are about the nearest sample to their place: moved by what that is away, there and here.
        on = np.floor(place + 0.5)
        moved = (on - place) - (np.floor(source + 0.5) - source)
        whole = np.floor(moved)
        phase = np.rint((moved - whole) * _PHASES).astype(int)
        on, phase = on - whole - phase // _PHASES, phase % _PHASES
        grains = np.stack([self._periods[mark[2]] for mark in marks])
        padded = np.pad(grains, ((0, 0), (_BEFORE, _TAPS - 1 - _BEFORE)))
        read = _between(padded, phase) / np.sqrt(ratio).astype(np.float32)[:, None]
        for at, grain in zip(on.astype(int).tolist(), read, strict=True):
            self._add(self._voiced, at, grain)
        for number in [number for number in self._periods if number < marks[-1][2]]:
            del self._periods[number]

    def _add(self, target: Float32, at: int, grain: Float32) -> None:
        first = at - self._reach - self._from
        part = target[max(first, 0) : max(first + len(grain), 0)]
        part += grain[max(-first, 0) : max(-first, 0) + len(part)]


def _between(held: Float32, phase: npt.NDArray[np.int_]) -> Float32:
    """Rows `[N, W + taps - 1]` read `phase` parts of a sample later, `[N, W]`."""
    width = held.shape[1] - _TAPS + 1
    taps = _READ[phase]
    read = np.zeros((len(held), width), dtype=np.float32)
    for tap in range(_TAPS):
        read += taps[:, tap : tap + 1] * held[:, tap : tap + width]
    return read
