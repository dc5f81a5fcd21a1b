"""How an utterance is spoken, from its first segment to its last."""

from __future__ import annotations

from dataclasses import dataclass, field

from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.register import Register
from sled_tts.server.engine.request import Mode, Prompt
from sled_tts.server.sessions.pauses import Pauses


@dataclass(frozen=True)
class Voice:
    """What all requests of an utterance share. `whole_segments`: an offline checkpoint needs a segment's whole text.

    `carry_frames`: each segment goes on from the end of the one before, at most so many frames; None when segments
    begin afresh, or all from `prompt`. `pauses`: what follows a segment that was said to its end. `timings`: words are
    told with their times; `unit_s` is the pace at which that begins. `text_lead_s`: the engine tells where the network
    looks, so much ahead of the sound; None when it does not. `register`, `dynamics`: of the voice in `prompt`.
    """

    utterance_id: str
    mode: Mode
    seed: int
    cfg_scale: float
    max_frames: int | None
    n: int | None
    m: int | None
    prompt: Prompt | None
    sampling_rate: int
    frame_rate: float
    carry_frames: int | None = None
    pauses: Pauses = field(default_factory=Pauses)
    timings: bool = False
    unit_s: float = 0.04
    text_lead_s: float | None = None
    register: Register | None = None
    dynamics: Dynamics | None = None

    @property
    def whole_segments(self) -> bool:
        return self.mode is Mode.OFFLINE
