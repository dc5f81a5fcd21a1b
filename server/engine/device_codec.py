"""The codec beside the steps: batches of equal cells, decoded on a lane of their own, by graphs where there are any.

Every cell of `chunks.ChunkPolicy` but an utterance's last has one of a few lengths, so a graph for each of them and
each batch size is all that is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.streaming import SlotState
from sled_tts.model.melody.melody import Melodist
from sled_tts.server.engine.captured import Captured
from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.melodies import Melodies
from sled_tts.server.engine.request import Float32
from sled_tts.server.engine.state import EngineState
from sled_tts.server.engine.transfers import Array, Download, Landing, Lanes, Upload, send_once
from sled_tts.server.engine.work import DecodeWork

_PENDING_BATCHES = 8

Cell = tuple[int, int, bool]
"""Rows of a batch, latents of each, and whether they begin an utterance."""

Decoded = tuple[Float32, Float32]
"""A wave `[count * hop]`, and the codec latents it is of, `[count, D]`; D is 0 where no melody is told by them."""

_NOTHING: Decoded = (np.zeros(0, dtype=np.float32), np.zeros((0, 0), dtype=np.float32))


@dataclass(frozen=True)
class Waves:
    """Decodes under way, which pieces of work each of them answers, and the melody of each piece, if any."""

    parts: Sequence[tuple[Sequence[int], Landing[list[Decoded]]]] = field(repr=False)
    work: Sequence[DecodeWork] = field(repr=False)
    melodists: Sequence[Melodist | None] = field(repr=False)

    @property
    def done(self) -> bool:
        return all(landing.done for _, landing in self.parts)

    def wait(self) -> list[Float32]:
        found: dict[int, Decoded] = {}
        for members, landing in self.parts:
            found.update(zip(members, landing.wait(), strict=True))
        heard = []
        for index, (work, melodist) in enumerate(zip(self.work, self.melodists, strict=True)):
            wave, latents = found.get(index, _NOTHING)
            if melodist is not None:
                wave = melodist.push(wave, latents, work.final)
            heard.append(wave)
        return heard


class DeviceCodec:
    """Decodes the latents of a state in place; its last slot absorbs padding."""

    def __init__(
        self, codec: Codec, state: EngineState, lanes: Lanes, graphed: bool, melodies: Melodies | None = None
    ) -> None:
        self.slots = state.latents.shape[0] - 1
        self.decoder = codec.streaming_decoder(self.slots + 1)
        self._state, self._lanes = state, lanes
        self._melodies = melodies or Melodies(None)
        self._hop, self._first = codec.config.hop_length, codec.config.first_chunk_frames
        policy = ChunkPolicy(self._first)
        behind = {0} | self._melodies.behind(codec.config.sampling_rate, self._hop)
        firsts = {policy.primed_cut(frames) for frames in behind}
        self._lengths = ((self._first, True), *((count, False) for count in sorted({policy.unit} | firsts)))
        self._where = Upload((2 * (self.slots + 1),), torch.long, lanes, _PENDING_BATCHES)
        # With a melody, latents come along with the sound.
        self._tells = 0 if self._melodies.melody is None else state.latents.shape[2]
        most = max(self._first, policy.unit) * (self._hop + self._tells)
        self._pcm = Download(torch.float32, self.slots * most, lanes)
        self.graphs: Captured[Cell, Tensor] = Captured("codec", lanes, graphed)
        # The last decode of each slot, for whoever is about to overwrite its latents.
        self._marks: dict[int, torch.cuda.Event | None] = {}

    @property
    def batches(self) -> tuple[int, ...]:
        """Powers of two up to all slots."""
        sizes = [1]
        while sizes[-1] < self.slots:
            sizes.append(min(2 * sizes[-1], self.slots))
        return tuple(sizes)

    def prepare(self) -> None:
        """Capture every batch of every cell; without graphs, run them once. Call on the codec's lane."""

        def works() -> Iterator[tuple[Cell, Callable[[], Tensor]]]:
            for rows in reversed(self.batches):
                for count, fresh in self._lengths:
                    where = self._send([self.slots] * rows, [0] * rows)
                    yield (rows, count, fresh), self._work(where, count, fresh)

        self.graphs.capture(works())
        if not len(self.graphs) and self._lanes.device.type == "cuda":
            for _, work in works():
                work()

    def launch(self, work: Sequence[DecodeWork]) -> Waves:
        """Queue a decode of frames that have been written. Call on the codec's lane."""
        groups: dict[tuple[int, bool], list[int]] = {}
        for index, w in enumerate(work):
            if not w.count:
                continue
            fresh = self.decoder.state.fresh[w.slot]
            if fresh and w.count < self._first and not w.final:
                raise ValueError(f"the first chunk of a stream needs {self._first} latents, got {w.count}")
            groups.setdefault((w.count, fresh), []).append(index)
        parts = []
        for (count, fresh), members in groups.items():
            slots, starts = [work[i].slot for i in members], [work[i].start for i in members]
            rows = next(b for b in self.batches if b >= len(members))
            if not self.graphs.has((rows, count, fresh)):
                rows = len(members)
            missing = rows - len(members)
            where = self._send(slots + [self.slots] * missing, starts + [0] * missing)
            waves = self.graphs.run((rows, count, fresh), self._work(where, count, fresh))
            split = _split(len(members), count, self._hop)
            parts.append((members, self._pcm.start(waves[: len(members)].flatten(), split)))
            for slot in slots:
                self.decoder.state.fresh[slot] = False
        mark = self._lanes.mark()
        self._marks.update((w.slot, mark) for w in work)
        return Waves(parts, work, [self._melodies.of(w.slot) for w in work])

    def last_decode(self, slot: int) -> torch.cuda.Event | None:
        """When the last decode of a slot's latents will be over."""
        return self._marks.pop(slot, None)

    def reset(self, slot: int) -> None:
        self.decoder.reset([slot])

    def enter(self, slot: int, latents: Float32) -> None:
        """Decode the codec latents `[S, D]` of a prompt, whose sound nobody hears. Call on the codec's lane."""
        self.decoder.run(
            send_once(latents, self._state.latents.device)[None], self._send([slot], [0])[:1].clone(), True
        )
        self.decoder.state.fresh[slot] = False

    def snapshot(self, slot: int) -> SlotState:
        return self.decoder.snapshot(slot)

    def restore(self, slot: int, held: SlotState) -> None:
        self.decoder.restore(slot, held)

    def latents(self, slot: int, start: int, count: int) -> Landing[Float32]:
        """Codec latents `[count, D]` of a slot. Call on the codec's lane."""
        kept = self._state.for_codec(slot, start, count)
        return self._pcm.start(kept.flatten(), lambda flat: flat.reshape(count, -1))

    def _send(self, slots: Sequence[int], starts: Sequence[int]) -> Tensor:
        """Slots, then starts, `[2 * rows]` at a fixed address."""
        self._where.host()[: 2 * len(slots)] = [*slots, *starts]
        return self._where.send(2 * len(slots))

    def _work(self, where: Tensor, count: int, fresh: bool) -> Callable[[], Tensor]:
        state = self._state

        def work() -> Tensor:
            slots, starts = where.view(2, -1).unbind(0)
            frames = starts[:, None] + torch.arange(count, device=where.device)
            given = state.latents[slots[:, None], frames] * state.std + state.mean
            waves = self.decoder.run(given, slots, fresh)
            return torch.cat([waves.flatten(1), given.flatten(1)], dim=1) if self._tells else waves

        return work


def _split(rows: int, count: int, hop: int) -> Callable[[Array], list[Decoded]]:
    def split(flat: Array) -> list[Decoded]:
        return [(row[: count * hop], row[count * hop :].reshape(count, -1)) for row in flat.reshape(rows, -1)]

    return split
