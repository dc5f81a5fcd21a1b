"""Probes and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from sled_tts.server.routes.state import State

router = APIRouter(tags=["operation"])


class Live(BaseModel):
    """The process answers."""

    status: str = "live"


class Ready(BaseModel):
    """A real synthesis has succeeded; its figures, and how many streams can run."""

    status: str = "ready"
    model: str
    ttfa_s: float
    rtf: float
    slots: int
    slots_in_use: int
    kv_bytes: int
    kv_bytes_in_use: int


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> Live:
    """200 as long as the event loop runs."""
    return Live()


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", responses={503: {"description": "Warming up, failed to, stopped or stopping"}})
async def ready(state: State) -> Ready:
    """200 once a warm-up synthesis has succeeded; 503 before, and when the engine or the server stops."""
    state.require_ready()
    assert state.warm_up is not None
    stats = state.service.engine_stats().values()
    return Ready(
        model=state.warm_up.model,
        ttfa_s=round(state.warm_up.ttfa_s, 4),
        rtf=round(state.warm_up.rtf, 4),
        slots=sum(one.slots for one in stats),
        slots_in_use=sum(one.in_use for one in stats),
        kv_bytes=sum(one.kv_bytes for one in stats),
        kv_bytes_in_use=sum(one.kv_bytes_in_use for one in stats),
    )


@router.get("/metrics", response_class=Response)
async def metrics(state: State) -> Response:
    """Prometheus exposition."""
    return Response(state.metrics.render(), media_type=CONTENT_TYPE_LATEST)
