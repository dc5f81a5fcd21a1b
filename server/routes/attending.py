"""The one read loop of every connection: a message, a moment or an end comes next; utterances speak meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from sled_tts.server.errors import IdleTimeoutError, SlowReaderError
from sled_tts.server.settings import Settings

Message = TypeVar("Message")
_Heard = TypeVar("_Heard", contravariant=True)


async def patiently(sending: Awaitable[None], limit_s: float) -> None:
    """Wait while a listener is slow; SlowReaderError when that takes too long."""
    try:
        async with asyncio.timeout(limit_s):
            await sending
    except TimeoutError:
        raise SlowReaderError(f"no audio was read for {limit_s:g} s") from None


class AgreedEnd(Exception):  # noqa: N818 - an agreed end is no error
    """The conversation is over as agreed: `Conversation.finish` was called."""


class Conversation(Generic[Message]):
    """Messages of one client, one after another, and the tasks that speak to it.

    `receive` waits for a message; what it raises ends the conversation.
    `heard_at`: when the last one was read from the socket, in seconds of `time.monotonic`.
    """

    def __init__(self, receive: Callable[[], Coroutine[Any, Any, Message]]) -> None:
        self._receive = receive
        self._receiving: asyncio.Task[Message] | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self.heard_at = time.monotonic()

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way."""
        return bool(self._tasks)

    async def next(self, wait_s: float | None = None) -> Message | None:
        """The next message; None when `wait_s` pass before it, or an utterance ends: there may be less to wait for.

        Raises AgreedEnd, what `fail` was told, and what `receive` raises.
        """
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._read())
        receiving = self._receiving
        waiting: set[asyncio.Future[Any]] = {receiving, self._over, self._ended}
        await asyncio.wait(waiting, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            self._over.result()
            raise AgreedEnd
        if self._ended.done():
            self._ended = asyncio.get_running_loop().create_future()
        if not receiving.done():
            return None
        self._receiving = None
        return receiving.result()

    def speak(self, speaking: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run an utterance; what it raises ends the conversation."""
        task = asyncio.create_task(speaking)
        self._tasks.add(task)
        task.add_done_callback(self._spoken)
        return task

    def finish(self) -> None:
        """End the conversation as agreed."""
        if not self._over.done():
            self._over.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End the conversation with an error; the first one counts."""
        if not self._over.done():
            self._over.set_exception(error)

    async def stop(self) -> None:
        """Cancel whatever still speaks and wait until it has let go of its slot."""
        if self._receiving is not None:
            self._receiving.cancel()
            _retrieve(self._receiving)
        self._over.cancel()
        _retrieve(self._over)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _read(self) -> Message:
        try:
            return await self._receive()
        finally:
            self.heard_at = time.monotonic()

    def _spoken(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._ended.done():
            self._ended.set_result(None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Nobody will ask for its error any more; asyncio complains about errors nobody asked for."""
    if future.done() and not future.cancelled():
        future.exception()


class Session(Protocol[_Heard]):
    """One protocol's side of a conversation: it is told about messages and time, and reads no socket itself."""

    async def handle(self, message: _Heard, /) -> None:
        """A message of the client. What it raises ends the conversation."""

    def wait_s(self) -> float | None:
        """Seconds until `tick` has something to do; None for never."""

    async def tick(self) -> None:
        """That time has passed, or an utterance has ended."""


async def attend(conversation: Conversation[Message], session: Session[Message]) -> None:
    """Until something ends it, which is raised."""
    while True:
        message = await conversation.next(session.wait_s())
        await (session.tick() if message is None else session.handle(message))


def silence_limit_s(settings: Settings, *, awaited: bool, speaking: bool) -> float | None:
    """How long a client may be silent: while text of theirs is `awaited`; while nothing is under way, as long as pools
    keep connections; None while the server is `speaking` and there is nothing to do but listen."""
    if awaited:
        return settings.ws_idle_timeout_s
    return None if speaking else settings.ws_unused_timeout_s


@dataclass
class IdleClock:
    """How long a client has been silent since it had something to do but listen."""

    since: float = field(default_factory=time.monotonic)

    def restart(self) -> None:
        """The limit runs from now on."""
        self.since = time.monotonic()

    def left(self, heard_at: float, limit_s: float | None) -> float | None:
        """Seconds left of `limit_s`; None, and the clock rests, without a limit: while there is nothing to do but
        listen. Raises IdleTimeoutError when there are none."""
        if limit_s is None:
            self.restart()
            return None
        left = limit_s - (time.monotonic() - max(heard_at, self.since))
        if left <= 0:
            raise IdleTimeoutError(f"no message for {limit_s:g} s")
        return left
