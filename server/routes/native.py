"""`WS /v1/stream`: text as it is written, speech as it is generated. See docs/protocol.md for every message."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.websockets import WebSocket

from sled_tts.server.errors import ProtocolError, Reply
from sled_tts.server.metrics import UtteranceMeter
from sled_tts.server.routes.attending import IdleClock, silence_limit_s
from sled_tts.server.routes.native_messages import (
    Cancel,
    End,
    Flush,
    KeepAlive,
    Start,
    Text,
    Tokens,
    parse_message,
)
from sled_tts.server.routes.native_speaker import Speaker
from sled_tts.server.routes.replies import error_body
from sled_tts.server.routes.state import AppState
from sled_tts.server.routes.wire import Wire, converse
from sled_tts.server.service import UtteranceOptions

router = APIRouter()

_ROUTE = "stream"


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """One connection; any number of utterances, one after another."""
    await converse(socket, _ROUTE, NativeSession)


@dataclass
class NativeSession:
    """`speaker` is that of the last utterance, `task` what it speaks in."""

    wire: Wire
    app: AppState
    speaker: Speaker | None = field(default=None, init=False)
    task: asyncio.Task[None] | None = field(default=None, init=False)
    idle: IdleClock = field(default_factory=IdleClock, init=False)

    async def opened(self) -> None:
        """Nothing is said before the first message."""

    def last_words(self, reply: Reply) -> Mapping[str, Any]:
        body: dict[str, Any] = {"type": "error", **error_body(reply)}
        if reply.retry_after_s is not None:
            body["retry_after_s"] = reply.retry_after_s
        if self.speaker is not None:
            body["id"] = self.speaker.start.id
        return body

    def wait_s(self) -> float | None:
        """The limit rests while the client has nothing to do but listen."""
        speaking = self.wire.speaking
        awaited = speaking and not (self.speaker is not None and self.speaker.text_ended)
        limit = silence_limit_s(self.app.settings, awaited=awaited, speaking=speaking)
        return self.idle.left(self.wire.heard_at, limit)

    async def tick(self) -> None:
        """`wait_s` has the only deadline, and raises when it has passed."""

    async def handle(self, message: dict[str, Any]) -> None:
        known = parse_message(message)
        if isinstance(known, KeepAlive):
            return
        if isinstance(known, Start):
            self._start(known)
            return
        if self.speaker is None:
            raise ProtocolError(f"{known.type} before start", param="type")
        if self.task is None or self.task.done() or self.speaker.cancelled:
            # The utterance ended (at its length limit, say) while this message was on its way: not the client's fault.
            return
        match known:
            case Text():
                self._require_open(self.speaker, known.type)
                self.speaker.append(known.text)
            case Tokens():
                self._require_open(self.speaker, known.type)
                self.speaker.append_tokens(known.tokens)
            case Flush():
                self._require_open(self.speaker, known.type)
                self.speaker.utterance.flush()
            case End():
                self._require_open(self.speaker, known.type)
                self.speaker.end()
            case Cancel():
                self.speaker.cancel(self.wire.heard_at)

    def _require_open(self, speaker: Speaker, kind: str) -> None:
        if speaker.text_ended:
            raise ProtocolError(f"{kind} after the end of the text", param="type")

    def _start(self, start: Start) -> None:
        if self.task is not None and not self.task.done():
            raise ProtocolError("start while an utterance is under way; wait for done, or cancel it", param="type")
        model = self.app.resolve_model(start.model, "streaming")
        seed = self.app.seed(start.seed)
        max_frames = None if start.max_seconds is None else max(1, round(start.max_seconds * model.frame_rate))
        options = UtteranceOptions(
            seed,
            start.cfg_scale,
            max_frames,
            start.n,
            start.m,
            model.name,
            start.voice,
            normalize=start.normalize,
            timings=start.timings,
        )
        utterance = self.app.service.open_stream(options)
        meter = UtteranceMeter(self.app.metrics, _ROUTE)
        self.speaker = Speaker(self.wire, utterance, start, seed, meter, self.app.settings.max_stream_chars)
        self.task = self.wire.speak(self._run(self.speaker))

    async def _run(self, speaker: Speaker) -> None:
        await speaker.run()
        self.idle.restart()
