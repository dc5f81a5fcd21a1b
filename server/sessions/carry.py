"""What a segment hands on to the next: its end, as speech and text to go on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sled_tts.server.engine.request import Float32, Prompt, WordTiming
from sled_tts.server.sessions.marks import ends_phrase

# Shorter ends give too little of a voice.
_LEAST_S = 0.5


def carried(
    words: Sequence[WordTiming],
    latents: Float32,
    frame_rate: float,
    begin_s: float,
    max_frames: int,
    encode: Callable[[str], list[int]],
) -> Prompt | None:
    """The longest end of a segment of at most `max_frames` that begins at its start or after punctuation.

    `latents [S, D]` are the segment's, `begin_s` is where it started in the utterance; `encode` gives `<s>` ... `</s>`.
    None when no such end is short enough: word borders without a pause are not known well enough to cut at.
    """
    for first, word in enumerate(words):
        opens = first == 0 or ends_phrase(words[first - 1].text)
        cut = 0 if first == 0 else round((word.start_s - begin_s) * frame_rate)
        if opens and cut >= 0 and _LEAST_S * frame_rate <= len(latents) - cut <= max_frames:
            text = " ".join(w.text for w in words[first:])
            return Prompt(np.ascontiguousarray(latents[cut:], np.float32), tuple(encode(text)[:-1]), once=True)
    return None
