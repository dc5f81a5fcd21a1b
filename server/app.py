"""The ASGI application: middleware, routes, and the warm-up that readiness waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from sled_tts.server.auth import ApiKeyMiddleware
from sled_tts.server.logs import get_logger
from sled_tts.server.metrics import Metrics
from sled_tts.server.origin import OriginMiddleware
from sled_tts.server.routes import (
    cartesia,
    cartesia_http,
    catalog,
    deepgram,
    deepgram_http,
    elevenlabs,
    elevenlabs_http,
    health,
    native,
    openai_hints,
    speech,
    voices,
)
from sled_tts.server.routes.body_limit import BodyLimitMiddleware
from sled_tts.server.routes.docs_page import mount_docs
from sled_tts.server.routes.replies import install_error_handlers
from sled_tts.server.routes.state import AppState
from sled_tts.server.routes.studio import mount_studio
from sled_tts.server.service import SpeechService
from sled_tts.server.settings import Settings
from sled_tts.server.wyoming.listener import WyomingListener

log = get_logger(__name__)


def create_app(settings: Settings, service: SpeechService) -> FastAPI:
    """An application around loaded models. It warms up when started and closes `service` when stopped."""
    state = AppState(settings, service, Metrics(service.engine_stats, service.voices.clone_uses))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm_up(state))
        wyoming = WyomingListener(state, settings.wyoming_port) if settings.wyoming_port is not None else None
        try:
            if wyoming is not None:
                state.wyoming_port = await wyoming.start()
            yield
        finally:
            if wyoming is not None:
                await wyoming.stop()
            warming.cancel()
            with suppress(asyncio.CancelledError):
                await warming
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="sled-tts",
        summary="Streaming text to speech with SLED.",
        description="Streamed text goes to the WebSocket `/v1/stream` (see docs/protocol.md in the repository).",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.sled = state
    install_error_handlers(app)
    for part in (
        speech,
        native,
        cartesia,
        cartesia_http,
        deepgram,
        deepgram_http,
        elevenlabs,
        elevenlabs_http,
        catalog,
        voices,
        health,
        openai_hints,
    ):
        app.include_router(part.router)
    mount_studio(app)
    mount_docs(app)
    # The one added last is outermost: a key is checked before a body is read.
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    app.add_middleware(ApiKeyMiddleware, keys=settings.api_key)
    if not settings.api_key:
        app.add_middleware(OriginMiddleware, origins=settings.cors_origin)
    if settings.cors_origin:
        # Outside the key check: browsers send preflights without credentials.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origin),
            allow_methods=["*"],
            allow_headers=["*"],
            # Without this a page gets the audio but not its rate or its seed, nor when to come back.
            expose_headers=[
                "Retry-After",
                "X-Sled-Left-Out",
                "X-Sled-Model",
                "X-Sled-Sample-Rate",
                "X-Sled-Seed",
                "X-Sled-Warning",
                "X-Synthetic-Audio",
            ],
        )
    return app


async def _warm_up(state: AppState) -> None:
    try:
        state.warm_up = await state.service.warm_up()
    except Exception as error:
        # Readiness answers 503 with this for as long as the process lives; the operator sees why.
        state.failure = error
        log.error("warm-up failed", exc_info=error)
        return
    finally:
        state.settled.set()
    log.info("ready", model=state.warm_up.model, ttfa_s=state.warm_up.ttfa_s, rtf=state.warm_up.rtf)
