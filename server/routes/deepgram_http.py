"""`POST /v1/speak`: Deepgram's REST route for whole texts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from sled_tts.server.errors import UnsupportedError
from sled_tts.server.routes.answers import VOICE_SUBSTITUTED, begin_answer
from sled_tts.server.routes.deepgram import ROUTE
from sled_tts.server.routes.deepgram_options import SpeakQuery
from sled_tts.server.routes.state import State

router = APIRouter(tags=["deepgram"])


class SpeakBody(BaseModel):
    """What to say."""

    model_config = ConfigDict(extra="ignore")

    text: str


@router.post("/v1/speak", response_class=StreamingResponse)
async def speak(body: SpeakBody, query: Annotated[SpeakQuery, Query()], state: State) -> StreamingResponse:
    """The audio of a whole text, streamed as it is generated."""
    if query.callback is not None:
        raise UnsupportedError("audio is sent in the answer, not to a callback", param="callback")
    wanted = query.audio(streamed=False)
    options = query.options(state, state.resolve_model(None, "offline"))
    answer = await begin_answer(state, ROUTE, body.text, options, wanted, query.speed)
    warning = VOICE_SUBSTITUTED if query.stock_voice else None
    return answer.response(query, warning=warning)
