"""When to decode which frames: the first chunk as small as exact decoding allows, then growing with measured lead.

Every decode call covers one cell of a fixed grid (the first cut, then `unit` frames each, the rest at the end), and
a larger chunk is several cells: convolution kernels round differently for other lengths, so a stream's bits would
otherwise depend on how fast it was generated.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChunkPolicy:
    """`unit` is in frames. `growth` holds (lead in seconds, units a chunk), ascending: the last entry whose lead has
    been reached decides. `primed_first`: the first cut of a stream whose decoder has already decoded its prompt, and
    so needs no context, if its sound comes as it is decoded; its cells double from there up to `unit`."""

    first: int
    unit: int = 4
    primed_first: int = 2
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

    def next_cuts(
        self,
        decoded: int,
        speech: int,
        prompt_frames: int,
        lead_s: float,
        final: bool,
        primed: bool = False,
        behind: int = 0,
    ) -> list[int]:
        """Where to cut now: ends of consecutive decode calls, ascending; empty when it is too early.

        `decoded`, `speech` count the prompt's frames too. The list ends at `speech` when `final`. `primed`: the prompt
        was decoded before the stream began. `behind`: frames by which its sound comes later than it is decoded.
        """
        if primed:
            return self._primed_cuts(decoded, speech, prompt_frames, lead_s, final, self.primed_cut(behind))
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
        if final or decoded == 0 or units >= self.units_wanted(lead_s):
            cuts += [at + (k + 1) * self.unit for k in range(units)]
            at += units * self.unit
        if final and speech > at:
            cuts.append(speech)
        return cuts

    def primed_cut(self, behind: int) -> int:
        """Frames of a primed stream's first cell: the fewest with something to hear, as far as cells may grow."""
        return max(self.primed_first, min(behind + 1, self.unit))

    def _primed_cuts(
        self, decoded: int, speech: int, prompt_frames: int, lead_s: float, final: bool, first: int
    ) -> list[int]:
        cuts, at = list[int](), decoded
        while at + (cell := max(first, min(at - prompt_frames, self.unit))) <= speech:
            at += cell
            cuts.append(at)
        growing = decoded - prompt_frames < self.unit
        if not (final or growing or at - decoded >= self.units_wanted(lead_s) * self.unit):
            return []
        if final and speech > at:
            cuts.append(speech)
        return cuts
