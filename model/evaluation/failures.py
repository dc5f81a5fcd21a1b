"""Failures by kind over a thousand sentences: empty, cut off, runaway; and the silence at both ends.

No recogniser is asked: a sentence that was begun and not finished, or not begun, or does not end, shows in its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from sled_tts.model.checkpoint import ModelBundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.judges import Wave
from sled_tts.model.evaluation.page import Column, Page
from sled_tts.model.evaluation.signal import inspect
from sled_tts.model.speaking import lines_in, speak_lines

# People speak 10 to 18 letters a second; what is said in `signal.inspect`'s terms between the silences counts.
_FASTEST, _SLOWEST = 28.0, 5.0
_AUDIBLE_S = 0.15
_EXAMPLES = 5


class Failure(StrEnum):
    """What can go wrong with a sentence."""

    EMPTY = "empty"
    CUT_OFF = "cut off"
    RUNAWAY = "runaway"


@dataclass(frozen=True)
class Outcome:
    """One sentence. Silences and `duration_s` in seconds, `failure` None when it was said."""

    text: str
    duration_s: float
    leading_s: float
    trailing_s: float
    failure: Failure | None


def judge(text: str, wave: Wave, rate: int, *, bound_reached: bool) -> Outcome:
    """Empty: nothing audible; runaway: the bound came before the stop, or fewer than 5 letters a second; cut off: more
    than 28 letters a second, which nobody can say."""
    report = inspect(wave, rate)
    speech = report.duration_s - report.leading_silence_s - report.trailing_silence_s
    letters = sum(character.isalnum() for character in text)
    failure = None
    if bound_reached:
        failure = Failure.RUNAWAY
    elif speech < _AUDIBLE_S:
        failure = Failure.EMPTY
    elif letters > _FASTEST * speech:
        failure = Failure.CUT_OFF
    elif letters < _SLOWEST * speech:
        failure = Failure.RUNAWAY
    return Outcome(text, report.duration_s, report.leading_silence_s, report.trailing_silence_s, failure)


def outcomes(
    bundle: ModelBundle, texts: Sequence[str], *, voice: str | None, seed: int, cfg_scale: float, batch: int = 32
) -> Iterator[Outcome]:
    """Speak every text in one of the checkpoint's voices, similar lengths together; in the order spoken."""
    chosen, rate = bundle.voice(voice), bundle.codec.config.sampling_rate
    ordered = sorted(texts, key=len)
    for first in range(0, len(ordered), batch):
        group = ordered[first : first + batch]
        made = speak_lines(bundle, lines_in(bundle, chosen, group), cfg_scale=cfg_scale, seed=seed + first, batch=batch)
        for text, said in zip(group, made, strict=True):
            yield judge(text, said.wave, rate, bound_reached=said.cut)


def tally(found: Sequence[Outcome]) -> dict[str, Any]:
    """A row: counts by kind, failures for each 1,000, seconds of silence (mean and 95th percentile)."""
    if not found:
        raise ModelError("there is nothing to count", param="count")
    kinds = {kind.value: sum(one.failure is kind for one in found) for kind in Failure}
    said = [one for one in found if one.failure is None] or list(found)
    leading, trailing = [one.leading_s for one in said], [one.trailing_s for one in said]
    return {
        "sentences": len(found), **kinds, "per_1000": 1000 * sum(kinds.values()) / len(found),
        "minutes": sum(one.duration_s for one in found) / 60,
        "leading_s": float(np.mean(leading)), "leading_p95_s": float(np.percentile(leading, 95)),
        "trailing_s": float(np.mean(trailing)), "trailing_p95_s": float(np.percentile(trailing, 95)),
    }  # fmt: skip


FAILURE_COLUMNS = (
    Column("sentences", "sentences", "d"),
    *(Column(kind.value, kind.value, "d") for kind in Failure),
    Column("per_1000", "failures in 1,000", ".1f"),
    Column("leading_s", "leading silence, s", ".2f"),
    Column("leading_p95_s", "95 %", ".2f"),
    Column("trailing_s", "trailing silence, s", ".2f"),
    Column("trailing_p95_s", "95 %", ".2f"),
)


def failures_page(
    bundle: ModelBundle, found: Mapping[str, Sequence[Outcome]], scale: str, settings: Mapping[str, Any]
) -> Page:
    """`found`: outcomes by voice."""
    rows = [{"voice": voice, **tally(own)} for voice, own in found.items()]
    failed = {
        voice: [{"text": o.text, "kind": o.failure, "seconds": round(o.duration_s, 2)} for o in own if o.failure]
        for voice, own in found.items()
    }
    notes = [
        "Empty: less than 0.15 s audible. Cut off: more than 28 letters a second between the silences. Runaway: the "
        f"bound of {bundle.extras.max_frames_per_token:g} frames a token came before the stop, or fewer than 5 letters "
        "a second. Wrong words are not failures here; the recognisers' tables count them.",
        *(f"{voice}, examples: {_examples(own)}" for voice, own in failed.items() if own),
    ]
    return Page(
        "failures", "Failures in 1,000 utterances", scale, (Column("voice", "voice"), *FAILURE_COLUMNS), rows,
        notes=notes, settings=settings, data=failed,
    )  # fmt: skip


def _examples(failed: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"{one['kind']} ({one['seconds']} s) “{one['text']}”" for one in failed[:_EXAMPLES])
