"""Batched synthesis without a server: offline and streaming order, prompts, guidance, bounds.

One step advances every live stream by one frame in a single forward pass: each stream's conditional row
takes `[last frame] + [tokens of a starting turn]`, its guidance row takes `[last frame]` only. The engine
of the server does the same over slots; this module is what evaluation, tests and the parity replay use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.interleave import Action, TurnCursor, prompt_block
from sled_tts.model.kv_cache import KVCache
from sled_tts.model.sled import Sled

OFFLINE_STOP_THRESHOLD = 0.8
STREAMING_STOP_THRESHOLD = 0.5

NoiseSource = Callable[[int], Tensor]


@dataclass(frozen=True)
class GenerationRequest:
    """One utterance: `ids` is `<s> ... </s>`; `prompt [P, D]` are latents of speech whose transcript opens
    the text; `noise(step) -> [C]` is drawn once a frame. At most `max_frames` new frames are written.

    With `prompt_ids` (`<s> ...`, streaming only) the prompt and its transcript are a block of their own in front
    (see `interleave.prompt_block`), and `ids` is only what is to be said, `</s>` last, without `<s>`.
    """

    ids: Sequence[int]
    noise: NoiseSource
    max_frames: int
    prompt: Tensor | None = None
    prompt_ids: Sequence[int] = ()


@dataclass
class Generation:
    """What came out: `latents [S, D]` are speech only; `stop_latent` is the frame sampled in the step that
    predicted the stop. `reason` is `length` when the bound was reached first: that is not a success."""

    latents: Tensor
    reason: Literal["stop", "length"]
    stop_latent: Tensor | None = None
    z: Tensor | None = None
    hidden: Tensor | None = None
    stop_logits: Tensor | None = None


@dataclass
class _Stream:
    request: GenerationRequest
    cursor: TurnCursor
    rows: list[int]
    frames: list[Tensor] = field(default_factory=list)
    trace: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    reason: Literal["stop", "length"] | None = None
    stop_latent: Tensor | None = None


def seeded_noise(seed: int, channels: int, scale: float = 1.0) -> NoiseSource:
    """Noise that depends on the seed alone, whatever else is being synthesised.

    A `scale` below 1 trades variety for steadiness; the published models are sampled at 1.
    """
    generator = torch.Generator().manual_seed(seed)
    return lambda step: scale * torch.randn(channels, generator=generator)


def prompted_prefix(cursor: TurnCursor, prompt_frames: int) -> list[tuple[bool, int]]:
    """Run the cursor over a prompt: `(is_text, index)` per position, up to the state that predicts the first
    new frame. Offline: the whole text, then the prompt; streaming: both interleaved n:m."""
    order: list[tuple[bool, int]] = []
    written = 0
    while True:
        action = cursor.next_action()
        if action is Action.READ:
            order += [(True, index) for index in cursor.read()]
        elif action is Action.NEED_TEXT:
            raise ModelError("the text ends before the prompt does")
        elif written == prompt_frames:
            return order
        else:
            order.append((False, written))
            cursor.wrote()
            written += 1


def _first_inputs(model: Sled, stream: _Stream) -> tuple[Tensor, Tensor]:
    """Embedded prefix of the conditional row and of the guidance row (`[</s>]`, then the prompt)."""
    request, device = stream.request, model.cos.device
    prompt, cursor = request.prompt, stream.cursor
    if request.prompt_ids:
        if prompt is None or cursor.n is None or cursor.m is None:
            raise ModelError("prompt_ids need a prompt and the streaming order", param="prompt_ids")
        told = len(request.prompt_ids)
        order = prompt_block(told, prompt.shape[0], cursor.n, cursor.m)
        order += [(True, told + index) for _, index in prompted_prefix(cursor, 0)]
    else:
        order = prompted_prefix(cursor, 0 if prompt is None else prompt.shape[0])
    text = model.embed_text(torch.tensor([*request.prompt_ids, *request.ids], device=device))
    end = model.embed_text(torch.tensor([model.config.eos_token_id], device=device))
    if prompt is None:
        return text[[index for _, index in order]], end
    speech = model.embed_speech(prompt.to(text))
    conditional = torch.stack([text[index] if is_text else speech[index] for is_text, index in order])
    return conditional, torch.cat([end, speech])


def _next_inputs(model: Sled, stream: _Stream) -> tuple[Tensor, Tensor]:
    """`[last frame] + [tokens of a turn that starts now]`, and `[last frame]`."""
    last = model.embed_speech(stream.frames[-1][None])
    if stream.cursor.next_action() is not Action.READ:
        return last, last
    ids = torch.tensor([stream.request.ids[index] for index in stream.cursor.read()], device=last.device)
    return torch.cat([last, model.embed_text(ids)]), last


def _finish(stream: _Stream, latent_dim: int, trace: bool) -> Generation:
    empty = torch.zeros(0, latent_dim)
    result = Generation(
        latents=torch.stack(stream.frames) if stream.frames else empty,
        reason=stream.reason or "length",
        stop_latent=stream.stop_latent,
    )
    if trace:
        z, hidden, logits = zip(*stream.trace, strict=True)
        result.z, result.hidden, result.stop_logits = torch.stack(z), torch.stack(hidden), torch.stack(logits)
    return result


@torch.inference_mode()
def generate(
    model: Sled,
    requests: Sequence[GenerationRequest],
    *,
    cfg_scale: float = 2.0,
    n: int | None = None,
    m: int | None = None,
    stop_threshold: float | None = None,
    strict_reference_stop: bool = False,
    ignore_stop: bool = False,
    trace: bool = False,
) -> list[Generation]:
    """Synthesise a batch; `n`, `m` None means offline order, otherwise streaming.

    A stop predicted while text is still unread is not obeyed, so that no text is ever dropped;
    `strict_reference_stop=True` reproduces the reference, which drops it. `ignore_stop=True` always writes
    `max_frames` frames. Raises ModelError when a request cannot fit the model's positions at all.
    """
    if not requests:
        return []
    threshold = stop_threshold
    if threshold is None:
        threshold = OFFLINE_STOP_THRESHOLD if n is None else STREAMING_STOP_THRESHOLD
    guided = cfg_scale != 1.0
    per_stream = 2 if guided else 1
    limit = model.config.max_position_embeddings
    needed = [
        len(r.prompt_ids) + len(r.ids) + (0 if r.prompt is None else r.prompt.shape[0]) + r.max_frames for r in requests
    ]
    cache = KVCache.allocate(
        model.config,
        len(requests) * per_stream,
        min(limit, max(needed)),
        device=model.cos.device,
        dtype=model.z_proj.weight.dtype,
    )
    streams = []
    for index, request in enumerate(requests):
        cursor = TurnCursor(n, m)
        cursor.feed(len(request.ids))
        cursor.end_text()
        streams.append(_Stream(request, cursor, list(range(index * per_stream, (index + 1) * per_stream))))
    live, first = list(streams), True
    while live:
        inputs = [(_first_inputs if first else _next_inputs)(model, stream) for stream in live]
        first = False
        parts = [part for pair in inputs for part in pair[:per_stream]]
        counts = [part.shape[0] for part in parts]
        hidden = model(torch.cat(parts), cache, [row for stream in live for row in stream.rows], counts)
        ends = torch.tensor(counts).cumsum(0) - 1
        last = hidden[ends].view(len(live), per_stream, -1)
        conditional = last[:, 0]
        z = last[:, 1] + cfg_scale * (conditional - last[:, 1]) if guided else conditional
        logits = model.stop_logit(conditional)
        noise = torch.stack([stream.request.noise(len(stream.frames)) for stream in live]).to(z)
        latents = model.generator(z, noise)
        for i, stream in enumerate(live):
            stream.trace.append((z[i], conditional[i], logits[i]))
            may_stop = (stream.cursor.final_turn or strict_reference_stop) and not ignore_stop
            if may_stop and torch.sigmoid(logits[i]).item() >= threshold:
                stream.reason, stream.stop_latent = "stop", latents[i]
                continue
            stream.frames.append(latents[i])
            stream.cursor.wrote()
            if len(stream.frames) >= stream.request.max_frames or _full(stream, cache, limit):
                stream.reason = "length"
        live = [stream for stream in live if stream.reason is None]
    return [_finish(stream, model.config.latent_dim, trace) for stream in streams]


def _full(stream: _Stream, cache: KVCache, limit: int) -> bool:
    """Whether the next step of this stream would pass the positions there are."""
    tokens = 0
    if stream.cursor.next_action() is Action.READ:
        unread = stream.cursor.unread
        tokens = unread if stream.cursor.n is None else min(stream.cursor.n, unread)
    return cache.lengths[stream.rows[0]] + 1 + tokens > min(limit, cache.capacity)
