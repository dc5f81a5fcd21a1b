"""Which models can be asked for, in the shapes OpenAI's clients read."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from sled_tts.server.errors import NotFoundError
from sled_tts.server.routes.state import MODEL_ALIASES, State
from sled_tts.server.service import LoadedModel

router = APIRouter(prefix="/v1", tags=["catalogue"])


def _describe(model: LoadedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "sled-tts",
        "kind": model.kind,
        "sample_rate": model.sampling_rate,
        "frame_rate": model.frame_rate,
        "n": model.n,
        "m": model.m,
        "slots": model.slots,
        "device": model.device,
        "parameters": model.parameters,
    }


@router.get("/models")
async def models(state: State) -> dict[str, Any]:
    """Loaded checkpoints."""
    return {"object": "list", "data": [_describe(model) for model in state.service.models]}


@router.get("/models/{name:path}")
async def model(name: str, state: State) -> dict[str, Any]:
    """One loaded checkpoint; OpenAI's model names resolve to the first."""
    for loaded in state.service.models:
        if name == loaded.name or name in MODEL_ALIASES:
            return _describe(loaded)
    raise NotFoundError(f"model {name!r} is not loaded", param="model")


@router.get("/audio/models")
async def audio_models(state: State) -> dict[str, Any]:
    """Loaded checkpoints, by id."""
    return {"models": [{"id": model.name} for model in state.service.models]}
