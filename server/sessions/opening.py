"""An utterance whose voice has to be fetched first: it takes text at once and speaks when the voice is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Generic, TypeVar

from sled_tts.server.engine.handle import Lease
from sled_tts.server.engine.request import Event, Failed, Finished, FinishReason
from sled_tts.server.service import LoadedModel
from sled_tts.server.sessions.utterance import LiveUtterance

Voice = TypeVar("Voice")


class OpeningUtterance(Generic[Voice]):
    """`server.service.Utterance` around a LiveUtterance that begins later; as it, it belongs to one event loop.

    Holds a slot from its creation. `fetch` is blocking and runs in a thread of its own once somebody iterates; `begin`
    then takes a slot, the one that was held. What either raises, and what the text that has come meanwhile is refused
    with, is the terminal event.
    """

    def __init__(
        self,
        model: LoadedModel,
        by_sentence: bool,
        cfg_scale: float,
        lease: Lease,
        fetch: Callable[[], Voice],
        begin: Callable[[Voice], LiveUtterance],
    ) -> None:
        self.model = model
        self.by_sentence = by_sentence
        self.cfg_scale = cfg_scale
        self._lease = lease
        self._fetch = fetch
        self._begin = begin
        self._live: LiveUtterance | None = None
        self._meanwhile: list[Callable[[LiveUtterance], None]] = []
        self._cancelled = asyncio.Event()

    @property
    def segment(self) -> int | None:
        """As of the LiveUtterance, once it is there."""
        return None if self._live is None else self._live.segment

    def append(self, text: str) -> None:
        self._do(lambda live: live.append(text))

    def append_tokens(self, ids: Sequence[int]) -> None:
        self._do(lambda live: live.append_tokens(ids))

    def flush(self) -> None:
        self._do(LiveUtterance.flush)

    def close(self) -> None:
        self._do(LiveUtterance.close)

    def cancel(self) -> None:
        """Stop at once and free the slot; safe to call at any time."""
        self._cancelled.set()
        self._lease.release()
        if self._live is not None:
            self._live.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            live = await self._opened()
            if live is None:
                yield Finished(FinishReason.CANCELLED, 0, 0, None, None)
                return
        except Exception as error:
            self.cancel()
            yield Failed(error)
            return
        async for event in live:
            yield event

    async def _opened(self) -> LiveUtterance | None:
        """None when it has been cancelled; what is being fetched is then left to its thread."""
        fetching = asyncio.create_task(asyncio.to_thread(self._fetch))
        cancelled = asyncio.create_task(self._cancelled.wait())
        try:
            await asyncio.wait({fetching, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            cancelled.cancel()
            if not fetching.done():
                fetching.cancel()
        if self._cancelled.is_set():
            if fetching.done() and not fetching.cancelled():
                fetching.exception()
            return None
        voice = fetching.result()
        # Nothing runs in between: the slot cannot go to anybody else.
        self._lease.release()
        self._live = live = self._begin(voice)
        meanwhile, self._meanwhile = self._meanwhile, []
        for act in meanwhile:
            act(live)
        return live

    def _do(self, act: Callable[[LiveUtterance], None]) -> None:
        if self._live is not None:
            act(self._live)
        elif not self._cancelled.is_set():
            self._meanwhile.append(act)
