"""Streams in step with each other on the engine's own runner, without scheduler, sockets or codec."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sled_tts.model.interleave import Action, TurnCursor
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.request import Mode, SynthesisRequest
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.work import LAST_LATENT, RowWork


class Speakers:
    """One stream for each of some texts, on slots 0, 1, ... Stops are not obeyed."""

    def __init__(
        self,
        runner: SledRunner | DeviceRunner,
        texts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        streaming: bool,
        cfg_scale: float = 2.0,
    ) -> None:
        self.runner, self.texts, self.guided = runner, texts, cfg_scale != 1.0
        info = runner.info
        mode = Mode.STREAMING if streaming else Mode.OFFLINE
        self.cursors = []
        for slot, (ids, seed) in enumerate(zip(texts, seeds, strict=True)):
            request = SynthesisRequest(
                f"bench-{slot}", mode, seed=seed, cfg_scale=cfg_scale, token_ids=None if streaming else tuple(ids)
            )
            runner.open(slot, request)
            cursor = TurnCursor(info.n, info.m) if streaming else TurnCursor(None, None)
            cursor.feed(len(ids))
            cursor.end_text()
            self.cursors.append(cursor)
        self._started = False

    def step(self) -> None:
        """One frame for every stream."""
        rows = []
        for slot, (cursor, ids) in enumerate(zip(self.cursors, self.texts, strict=True)):
            last = [LAST_LATENT] if self._started else []
            read = [ids[k] for k in cursor.read()] if cursor.next_action() is Action.READ else []
            free = (last or [self.runner.info.eos_id]) if self.guided else []
            rows.append(RowWork(slot, tuple(last + read), tuple(free)))
        self.runner.step(rows)
        for cursor in self.cursors:
            cursor.wrote()
        self._started = True

    def latents(self, slot: int, frames: int) -> Tensor:
        """The first frames of a stream, `[frames, D]`, as the network wrote them."""
        return self.runner.state.latents[slot, :frames].cpu()
