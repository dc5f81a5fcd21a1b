"""The melody of every slot: on the host, after the codec, each stream by itself and so with its own bits."""

from __future__ import annotations

from dataclasses import dataclass, field

from sled_tts.model.melody.melody import Melodist, Melody
from sled_tts.server.engine.request import SynthesisRequest
from sled_tts.server.engine.work import RunnerInfo


@dataclass
class Melodies:
    """`melody`: the checkpoint's, None when its speech stays at the pitch it has."""

    melody: Melody | None
    _live: dict[int, Melodist] = field(default_factory=dict, init=False)

    def open(self, slot: int, request: SynthesisRequest, info: RunnerInfo) -> int:
        """Begin a slot's utterance; without a register it has no melody. Returns how many frames it will be behind."""
        self._live.pop(slot, None)
        if self.melody is None or request.register is None:
            return 0
        prompt = request.prompt
        # The sound of a block in front never comes out of a decode; that of any other prompt does.
        skip = 0 if prompt is None or prompt.ids else prompt.frames
        melodist = self._live[slot] = self.melody.begin(
            request.register,
            request.seed,
            rate=info.sampling_rate,
            hop=info.hop,
            skip=skip,
            dynamics=request.dynamics,
        )
        return melodist.behind

    def behind(self, rate: int, hop: int) -> set[int]:
        """Frames by which voices of the checkpoint may be behind, at `rate` Hz with `hop` samples a frame."""
        return set() if self.melody is None else self.melody.behind(rate, hop)

    def of(self, slot: int) -> Melodist | None:
        return self._live.get(slot)

    def close(self, slot: int) -> None:
        self._live.pop(slot, None)
