"""Which models can be asked for, in the shapes OpenAI's clients read."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from sled_tts.server.routes.state import State
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


@router.get("/models", response_model=None)
async def models(state: State, request: Request) -> dict[str, Any] | list[dict[str, Any]]:
    """Loaded checkpoints; a plain list for ElevenLabs' clients, which have the same path and a header of their own."""
    if "xi-api-key" in request.headers:
        return [
            {"model_id": model.name, "name": model.name, "can_do_text_to_speech": True, "languages": []}
            for model in state.service.models
        ]
    return {"object": "list", "data": [_describe(model) for model in state.service.models]}


@router.get("/models/{name:path}")
async def model(name: str, state: State) -> dict[str, Any]:
    """One loaded checkpoint; OpenAI's model names mean the one that `/v1/audio/speech` takes for them."""
    return _describe(state.resolve_model(name, "offline"))


@router.get("/audio/models")
async def audio_models(state: State) -> dict[str, Any]:
    """Loaded checkpoints, by id."""
    return {"models": [{"id": model.name} for model in state.service.models]}
