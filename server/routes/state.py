"""What every route needs, passed explicitly through the application object."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from sled_tts.server.errors import NotFoundError, NotReadyError, Reply, SledTtsError, VoiceNotFoundError, reply_for
from sled_tts.server.logs import get_logger
from sled_tts.server.metrics import Metrics
from sled_tts.server.routes.attending import Conversation
from sled_tts.server.service import LoadedModel, SpeechService, WarmUp
from sled_tts.server.settings import Settings

log = get_logger(__name__)

# Names that OpenAI's clients send for their own models; each means what is loaded here.
MODEL_ALIASES = frozenset({"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "default"})
# They also come with a date.
_DATED_MODEL = "gpt-4o-mini-tts-"


@dataclass
class AppState:
    """One server. `warm_up` is set once it can speak, `failure` when it cannot; `settled` once either is known.

    `wyoming_port`: where the Wyoming listener really is, while it is. `stopping` once the server has been told to.
    """

    settings: Settings
    service: SpeechService
    metrics: Metrics
    warm_up: WarmUp | None = None
    failure: Exception | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    wyoming_port: int | None = None
    stopping: bool = False
    _conversations: set[Conversation[Any]] = field(default_factory=set, init=False)

    @property
    def speaking(self) -> bool:
        """Whether a connection that carries several utterances has one under way."""
        return any(conversation.speaking for conversation in self._conversations)

    @contextmanager
    def conversing(self, conversation: Conversation[Any]) -> Iterator[None]:
        """While this goes on it counts for `speaking`."""
        self._conversations.add(conversation)
        try:
            yield
        finally:
            self._conversations.discard(conversation)

    def require_ready(self) -> None:
        """Raises NotReadyError until the warm-up synthesis has succeeded, and after an engine has died or the server
        has been told to stop."""
        if self.stopping:
            raise NotReadyError("the server is shutting down")
        if self.failure is not None:
            raise NotReadyError(f"the warm-up synthesis failed: {self.failure}")
        if self.warm_up is None:
            raise NotReadyError("still warming up; try again in a moment")
        if not self.service.alive:
            raise NotReadyError("the engine has stopped")

    def seed(self, asked: int | None) -> int:
        """What a request asked for, or else the operator's, or else a random one; reported back where there is room
        for it, so that the audio can be had again."""
        if asked is not None:
            return asked
        return secrets.randbelow(2**31) if self.settings.seed is None else self.settings.seed

    def resolve_model(self, name: str | None, preferred_kind: str) -> LoadedModel:
        """The named model; without a name (or under OpenAI's names) the first of a kind, or else the first.

        Raises NotFoundError for any other name.
        """
        models = self.service.models
        if name is None or name in MODEL_ALIASES or name.startswith(_DATED_MODEL):
            return next((model for model in models if model.kind == preferred_kind), models[0])
        for model in models:
            if model.name == name:
                return model
        loaded = ", ".join(model.name for model in models)
        raise NotFoundError(f"model {name!r} is not loaded; loaded: {loaded}", param="model")

    def voice_or_default(self, name: str | None) -> str | None:
        """The name of a voice that is here; None, the default one, for any other where the operator allows it.

        Not its id: by `default` and OpenAI's names each of two checkpoints means a voice of its own. Raises
        VoiceNotFoundError.
        """
        try:
            self.service.voices.resolve(name)
            return name
        except VoiceNotFoundError:
            if self.settings.accept_unknown_voices:
                return None
            raise

    def report(self, route: str, error: Exception) -> Reply:
        """Count an error, log it when nobody meant it, and say how it is answered."""
        if not isinstance(error, SledTtsError):
            log.error("speaking failed", route=route, exc_info=error)
        self.metrics.error(route, error)
        return reply_for(error)


def state_of_app(app: Starlette) -> AppState:
    """What `create_app` put there."""
    state = app.state.sled
    assert isinstance(state, AppState)
    return state


def state_of(connection: HTTPConnection) -> AppState:
    return state_of_app(connection.app)


State = Annotated[AppState, Depends(state_of)]
