"""Where followed streams look in their text while they speak, found on a device that is not waited for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sled_tts.model.following import AlignmentHeads, TextWatch, Watched
from sled_tts.server.engine.columns import Pack
from sled_tts.server.engine.packed import PackedNetwork
from sled_tts.server.engine.request import Float32
from sled_tts.server.engine.transfers import Download, Landing, Lanes, send_once
from sled_tts.server.engine.work import RowWork

# Text that a stream has usually read when it is looked at; more gets a larger buffer.
_USUAL_TOKENS = 64


class Looks:
    """`alignment` None: nobody looks. `found` has each slot's last look `[T]`, once its step has been waited for."""

    def __init__(self, alignment: AlignmentHeads | None, network: PackedNetwork, slots: int, lanes: Lanes) -> None:
        self._alignment, self._network, self._device = alignment, network, lanes.device
        self._text_at: dict[int, list[int]] = {}
        self._download = Download(torch.float32, slots * _USUAL_TOKENS, lanes)
        self.found: dict[int, Float32] = {}

    def open(self, slot: int, follow: bool) -> None:
        """A new stream is in the slot."""
        self._text_at.pop(slot, None)
        self.found.pop(slot, None)
        if follow and self._alignment is not None:
            self._text_at[slot] = []

    def start(self, rows: Sequence[RowWork], pack: Pack, seen: Tensor) -> list[Landing[dict[int, Float32]]]:
        """Note what `rows` read and, after their step, ask the layer that tells, which read `seen [N, H]`. Returns what
        each followed slot looked at, under way to the host; nothing where no row is followed."""
        watched, slots = list[Watched](), list[int]()
        for row, (told, *_) in zip(rows, pack.streams, strict=True):
            if (text := self._text_at.get(row.slot)) is not None:
                last = pack.columns[told][5]
                past = last + 1 - len(row.conditional)
                text += (past + k for k, column in enumerate(row.conditional) if column >= 0)
                watched.append(Watched(told, 2 * row.slot, last, _place(text, self._device)))
                slots.append(row.slot)
        if not watched or self._alignment is None:
            return []
        watch, network = TextWatch(self._alignment, watched, _place), self._network
        layer, keys = network.sled.layers[watch.layer], network.state.cache.keys[watch.layer]
        watch.see(layer, seen, keys, network.cos, network.sin)
        ends = np.cumsum([look.shape[0] for look in watch.looks])[:-1]
        joined = torch.cat(watch.looks)
        return [self._download.start(joined, lambda flat: dict(zip(slots, np.split(flat, ends), strict=True)))]


def _place(numbers: Sequence[int], device: torch.device) -> Tensor:
    return send_once(np.array(numbers, dtype=np.int64), device)
