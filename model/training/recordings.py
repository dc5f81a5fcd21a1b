"""From a manifest of recordings to a training corpus: whole frames, optionally pitch-locked, phones where known."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from lhotse import MonoCut

from sled_tts.model.errors import ModelError
from sled_tts.model.melody.register import nearest_pitch
from sled_tts.model.pitch import PITCHES_HZ, Float32, frame_pitches, lock_pitch, median_pitch, pitch_track
from sled_tts.model.training.alignment import RATE, Aligned, Aligner
from sled_tts.model.training.synthetic import LOCKED, PITCHES, CorpusItem

Float64 = npt.NDArray[np.float64]

_LEAD_S, _TRAIL_S = 0.06, 0.12
_PITCH_SAMPLES = 5
# What a process is given of many cuts.
_CUTS_AT_ONCE = 16


@dataclass(frozen=True)
class Preparation:
    """How recordings become a corpus. `level` is the RMS every utterance gets (peaks stay below 0.95), 0 to leave it
    as it was recorded; `trim`: without the silence at either end.

    `lock_pitch`: see `pitch`. `phrase_s`: cut utterances longer than this at pauses (needs the alignment).
    """

    rate: int = RATE
    hop: int = 320
    level: float = 0.07
    trim: bool = True
    lock_pitch: bool = True
    pitches_hz: tuple[float, ...] = PITCHES_HZ
    align: bool = True
    phrase_s: float = 8.0
    pause_s: float = 0.14
    shortest_phrase_s: float = 1.2


@dataclass(frozen=True)
class Piece:
    """One utterance: `samples [frames * hop]`, its text, one phone label a frame (or none at all), its speaker, and the
    pitch of every frame before it was locked (Hz, 0 where unvoiced; None where it was not)."""

    samples: npt.NDArray[np.int16]
    text: str
    labels: list[str]
    speaker: str
    pitches: Float32 | None = None


@dataclass(frozen=True)
class Preparer:
    """Turns cuts into utterances; `pitches` are the speakers', where they are locked."""

    how: Preparation
    pitches: Mapping[str, float]
    aligner: Aligner | None

    @classmethod
    def create(cls, cuts: Iterable[MonoCut], how: Preparation) -> Preparer:
        """Looks through `cuts` only to find the speakers' pitches. Raises ModelError for speakers without voiced
        speech."""
        by_speaker: dict[str, list[MonoCut]] = {}
        for cut in cuts if how.lock_pitch else ():
            by_speaker.setdefault(speaker_of(cut), []).append(cut)
        pitches = {name: _speaker_pitch(own, how) for name, own in by_speaker.items()}
        return cls(how, pitches, Aligner.create() if how.align else None)

    def pieces(self, cut: MonoCut) -> list[Piece]:
        """The utterance, or its phrases when it is long and they are known. Raises ModelError for audio that cannot be
        read."""
        how, name = self.how, speaker_of(cut)
        wave = load_cut(cut, how.rate)
        if how.trim:
            wave = trim_silence(wave, how.rate)
        pitches = None
        if how.lock_pitch:
            tracked = pitch_track(wave, how.rate)
            pitches = frame_pitches(tracked[0], how.rate, how.hop, -(-len(wave) // how.hop))
            wave = lock_pitch(wave, how.rate, self.pitches[name], tracked)
        samples, text = _to_samples(wave, how), cut.supervisions[0].text.strip()
        aligned = self.aligner.align(samples, text) if self.aligner is not None else None
        frames, hop = len(samples) // how.hop, how.hop
        labels = aligned.phone_labels(frames, hop / how.rate) if aligned is not None else []
        return [
            Piece(
                samples[begin * hop : end * hop],
                words,
                labels[begin:end],
                name,
                None if pitches is None else pitches[begin:end],
            )
            for begin, end, words in _phrases(frames, text, aligned, how)
        ]


def prepare_recordings(
    cuts: Sequence[MonoCut],
    folder: Path,
    how: Preparation,
    progress: Callable[[int], None] = lambda done: None,
    jobs: int = 1,
) -> tuple[int, float]:
    """Write `folder/audio.i16` and `folder/items.jsonl` from cuts of any rate, and `folder/pitch.f32` where pitch is
    locked; returns (utterances, hours).

    The speaker is the supervision's, or the recording's folder where there is none. `progress` hears how many cuts
    are done; `jobs` processes make the same files as one. Raises ModelError for speakers without voiced speech and for
    audio that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    preparer, count, offset = Preparer.create(cuts, how), 0, 0
    with (
        closing(_prepared(preparer, cuts, jobs)) as prepared,
        (folder / "audio.i16.partial").open("wb") as audio,
        (folder / "items.jsonl.partial").open("w") as items,
        (folder / f"{PITCHES}.partial").open("wb") as pitches,
    ):
        for done, pieces in enumerate(prepared, 1):
            for piece in pieces:
                frames = len(piece.samples) // how.hop
                item = CorpusItem(count, piece.text, offset, frames, piece.labels, piece.speaker)
                audio.write(piece.samples.tobytes())
                items.write(json.dumps(asdict(item)) + "\n")
                if piece.pitches is not None:
                    pitches.write(piece.pitches.astype("<f4").tobytes())
                count, offset = count + 1, offset + frames
            progress(done)
    if how.lock_pitch:
        (folder / LOCKED).write_text(json.dumps(preparer.pitches))
    else:
        for name in (f"{PITCHES}.partial", PITCHES, LOCKED):
            (folder / name).unlink(missing_ok=True)
    for name in ("audio.i16", "items.jsonl", *([PITCHES] if how.lock_pitch else [])):
        (folder / f"{name}.partial").replace(folder / name)
    return count, offset * how.hop / how.rate / 3600


def _prepared(preparer: Preparer, cuts: Sequence[MonoCut], jobs: int) -> Generator[list[Piece], None, None]:
    """The utterances of each cut, in order."""
    if jobs == 1 or len(cuts) <= _CUTS_AT_ONCE:
        yield from map(preparer.pieces, cuts)
        return
    parts = [cuts[first : first + _CUTS_AT_ONCE] for first in range(0, len(cuts), _CUTS_AT_ONCE)]
    # A fresh interpreter: a forked one would inherit threads in an unknown state.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        for part in pool.map(partial(_pieces_of, preparer.how, preparer.pitches), parts):
            yield from part
    finally:
        pool.shutdown(cancel_futures=True)


def _pieces_of(how: Preparation, pitches: Mapping[str, float], cuts: Sequence[MonoCut]) -> list[list[Piece]]:
    preparer = Preparer(how, pitches, Aligner.create() if how.align else None)
    return [preparer.pieces(cut) for cut in cuts]


def speaker_of(cut: MonoCut) -> str:
    """The supervision's speaker, or the name of the folder the recording lies in."""
    return cut.supervisions[0].speaker or Path(cut.recording.sources[0].source).parent.name


def trim_silence(wave: Float64, rate: int) -> Float64:
    """Without what is quieter than 2 % of the loudest 10 ms at either end, a little of it kept."""
    window = rate // 100
    windows = wave[: len(wave) // window * window].reshape(-1, window)
    level = np.sqrt(np.square(windows).mean(axis=1))
    loud = np.flatnonzero(level > max(0.02 * level.max(initial=0.0), 1e-4))
    if not len(loud):
        return wave
    first = max(0, int(loud[0]) * window - int(_LEAD_S * rate))
    last = min(len(wave), (int(loud[-1]) + 1) * window + int(_TRAIL_S * rate))
    return wave[first:last]


def load_cut(cut: MonoCut, rate: int) -> Float64:
    """Mono samples `[N]` of the cut at `rate`, without offset."""
    try:
        wave = cut.resample(rate).load_audio()[0].astype(np.float64)
    except Exception as error:  # whatever the decoder of the day raises
        last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise ModelError(f"{cut.id}: {cut.recording.sources[0].source} cannot be read: {last[0]}") from error
    return np.ascontiguousarray(wave - wave.mean())


def _speaker_pitch(cuts: Sequence[MonoCut], how: Preparation) -> float:
    spread = cuts[:: max(1, len(cuts) // _PITCH_SAMPLES)][:_PITCH_SAMPLES]
    return nearest_pitch(median_pitch((load_cut(cut, how.rate) for cut in spread), how.rate), how.pitches_hz)


def _to_samples(wave: Float64, how: Preparation) -> npt.NDArray[np.int16]:
    """At the corpus's level, padded to whole frames."""
    wave = np.pad(wave, (0, -len(wave) % how.hop))
    if not how.level:
        return (wave.clip(-1, 1) * 32767).astype("<i2")
    wave = wave * (how.level / max(float(np.sqrt(np.square(wave).mean())), 1e-5))
    wave = wave * min(1.0, 0.95 / max(float(np.abs(wave).max()), 1e-5))
    return (wave * 32767).astype("<i2")


def _phrases(frames: int, text: str, aligned: Aligned | None, how: Preparation) -> list[tuple[int, int, str]]:
    """(first frame, frame after the last, text) of the utterance, or of its phrases when it is long and they are
    known."""
    frame_s, written = how.hop / how.rate, text.split()
    if aligned is None or frames * frame_s <= how.phrase_s or len(written) != len(aligned.words):
        return [(0, frames, text)]
    found = []
    for first, last in aligned.phrases(how.pause_s, how.shortest_phrase_s):
        begin = max(0, int((aligned.words[first][1] - _LEAD_S) / frame_s))
        end = min(frames, int((aligned.words[last - 1][2] + _LEAD_S) / frame_s) + 1)
        found.append((begin, end, " ".join(written[first:last])))
    return found
