"""Voices: listed, made of a recording, renamed, deleted. OpenAI's paths and shapes."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from sled_tts.server.errors import InputTooLongError
from sled_tts.server.routes.state import State
from sled_tts.server.service import NewVoice, Voice

router = APIRouter(prefix="/v1/audio/voices", tags=["voices"])

_OBJECT = "audio.voice"


class Rename(BaseModel):
    """The body of PATCH."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)


def describe(voice: Voice, alias_of: str | None = None) -> dict[str, Any]:
    """One voice as clients read it."""
    return {
        "id": voice.id,
        "name": voice.name,
        "object": _OBJECT,
        "created_at": voice.created_at,
        "kind": str(voice.kind),
        "description": voice.description,
        "alias_of": alias_of,
    }


@router.get("")
async def voices(state: State) -> dict[str, Any]:
    """Built-in voices (the default one first), cloned ones, and the OpenAI names that stand for some of them."""
    store = state.service.voices
    listed = await asyncio.to_thread(store.list)
    ids = {voice.id: voice for voice in listed}
    aliases = [
        describe(ids[voice_id], voice_id) | {"id": name, "name": name.capitalize()}
        for name, voice_id in store.aliases().items()
        if name not in ids
    ]
    return {"voices": [*(describe(voice) for voice in listed), *aliases]}


@router.get("/{voice_id}")
async def voice(voice_id: str, state: State) -> dict[str, Any]:
    """One voice, by id, name or alias."""
    return describe(await asyncio.to_thread(state.service.voices.resolve, voice_id))


@router.post(
    "",
    responses={
        409: {"description": "The name is taken"},
        413: {"description": "The recording is too large or too long"},
        422: {"description": "The recording cannot be used, or a field is missing; the message says why"},
    },
)
async def create(
    state: State,
    audio_sample: Annotated[UploadFile, File(description="One speaker, clean, a few seconds, any common format.")],
    name: Annotated[str, Form(description="How to ask for it.")],
    consent: Annotated[str, Form(description="Who is heard, and that they agree to this use; kept with the voice.")],
    ref_text: Annotated[str | None, Form(description="What is said in the recording.")] = None,
    description: Annotated[str, Form()] = "",
) -> dict[str, Any]:
    """Make a voice of a recording. It is encoded once, here."""
    limit = state.settings.max_reference_bytes
    data = await audio_sample.read(limit + 1)
    if len(data) > limit:
        raise InputTooLongError(f"audio_sample is larger than {limit} bytes", param="audio_sample")
    new = NewVoice(name, data, ref_text, consent, description)
    return describe(await asyncio.to_thread(state.service.voices.add, new))


@router.patch("/{voice_id}")
async def rename(voice_id: str, body: Rename, state: State) -> dict[str, Any]:
    """Give a cloned voice another name; its id stays."""
    return describe(await asyncio.to_thread(state.service.voices.rename, voice_id, body.name))


@router.delete("/{voice_id}")
async def delete(voice_id: str, state: State) -> dict[str, Any]:
    """Remove a cloned voice with its recording. Utterances under way finish."""
    await asyncio.to_thread(state.service.voices.delete, voice_id)
    return {"id": voice_id, "object": f"{_OBJECT}.deleted", "deleted": True}
