"""What a loaded checkpoint cannot do, said before a slot is taken."""

from __future__ import annotations

from collections.abc import Sequence

from sled_tts.server.engine.request import Mode, SynthesisRequest
from sled_tts.server.engine.work import RunnerInfo
from sled_tts.server.errors import InputTooLongError, InvalidParameterError, UnsupportedError


def check_tokens(info: RunnerInfo, ids: Sequence[int], before: int = 0) -> None:
    """Raise InvalidParameterError or InputTooLongError for ids that cannot be read after `before` others."""
    for token in ids:
        if not 0 <= token < info.vocab_size:
            raise InvalidParameterError(f"token id {token} is outside 0..{info.vocab_size - 1}", param="tokens")
    if before + len(ids) > info.positions:
        raise InputTooLongError(f"{before + len(ids)} tokens exceed the limit of {info.positions}", param="text")


def check_request(info: RunnerInfo, request: SynthesisRequest) -> None:
    """Raise UnsupportedError, InvalidParameterError or InputTooLongError for what cannot be synthesised here."""
    if request.mode is Mode.STREAMING and (request.n or info.n) is None:
        raise UnsupportedError("the loaded checkpoint is offline and cannot stream text", param="mode")
    if request.mode is Mode.OFFLINE and info.n is not None:
        raise UnsupportedError("the loaded checkpoint is a streaming one: use its n:m pacing", param="mode")
    prompt = request.prompt
    if prompt is not None and prompt.latents.shape[1] != info.latent_dim:
        raise InvalidParameterError(
            f"prompt latents are {prompt.latents.shape[1]} wide, not {info.latent_dim}", param="prompt"
        )
    check_tokens(info, request.token_ids or ())
    needed = len(request.token_ids or ()) + (prompt.frames if prompt else 0)
    if needed >= info.positions:
        raise InputTooLongError(
            f"text and prompt take {needed} positions; the limit is {info.positions - 1}", param="text"
        )
