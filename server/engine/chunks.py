"""When to decode which frames: the first chunk as small as exact decoding allows, then growing with measured lead.

Every cut lies on a fixed grid (first cut, then multiples of `unit`), so a stream's PCM cannot depend on how fast
it was generated or who ran beside it: larger chunks are whole grid cells, the short rest comes alone at the end.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChunkPolicy:
    """`unit` is in frames. `growth` holds (lead in seconds, units a chunk), ascending: the last entry whose lead has
    been reached decides."""

    first: int
    unit: int = 4
    growth: tuple[tuple[float, int], ...] = ((0.0, 1), (0.3, 2), (0.8, 4))

    def first_cut(self, prompt_frames: int) -> int:
        """Speech frames of the first decode call; a prompt long enough is decoded on its own."""
        return max(self.first, prompt_frames)

    def units_wanted(self, lead_s: float) -> int:
        wanted = self.growth[0][1]
        for lead, units in self.growth:
            if lead_s >= lead:
                wanted = units
        return wanted

    def next_cuts(self, decoded: int, speech: int, prompt_frames: int, lead_s: float, final: bool) -> list[int]:
        """Where to cut now: ends of consecutive decode calls, ascending; empty when it is too early.

        `decoded`, `speech` count the prompt's frames too. The list ends at `speech` when `final`.
        """
        cuts: list[int] = []
        at = decoded
        if at == 0:
            head = self.first_cut(prompt_frames)
            audible = head if head > prompt_frames else head + self.unit
            if speech < (head if final else audible):
                return [speech] if final and speech else []
            cuts.append(head)
            at = head
        units = (speech - at) // self.unit
        if final or (decoded == 0 and units) or units >= self.units_wanted(lead_s):
            if units:
                at += units * self.unit
                cuts.append(at)
        if final and speech > at:
            cuts.append(speech)
        return cuts
