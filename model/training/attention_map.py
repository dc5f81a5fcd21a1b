"""Where in the text the network looks while it speaks: the picture by which training is judged, and single heads."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sled_tts.model.layers import rotate
from sled_tts.model.sled import Sled
from sled_tts.model.training.batches import Batch
from sled_tts.model.training.layout import TrainingLayout, embed_layout, layout_for


@torch.no_grad()
def attention_map(model: Sled, batch: Batch) -> Tensor:
    """`[layers, S, T]`: for the first row of `batch`, how much of each speech position's attention goes to each text
    column, mean over heads. Rows sum to one or less; a head that follows the text draws a diagonal."""
    layout = _layout(model, batch)
    speech, text = layout.speech_index[0] >= 0, layout.text_index[0] >= 0
    return torch.stack([weight.mean(0)[speech][:, text] for weight in _weights(model, batch, layout)])


@torch.no_grad()
def head_maps(model: Sled, batch: Batch) -> Tensor:
    """`[layers, heads, S, T]`: for the first row of `batch`, the attention of each head to each text column, at the
    position that writes each frame. Frames and columns of a prompt are left out."""
    layout, prompt = _layout(model, batch), batch.prompts[0]
    frames = int(batch.speech_mask[0].sum())
    writes = layout.condition[0, prompt.frames : frames]
    text = layout.text_index[0] >= prompt.tokens
    return torch.stack([weight[:, writes][:, :, text] for weight in _weights(model, batch, layout)])


def _layout(model: Sled, batch: Batch) -> TrainingLayout:
    streaming = model.config.is_streaming
    prompts = batch.prompts[:1] if streaming else None
    return layout_for(model.config, batch.text_mask[:1], batch.speech_mask[:1], compact=True, prompts=prompts)


def _weights(model: Sled, batch: Batch, layout: TrainingLayout) -> Iterator[Tensor]:
    """`[heads, L, L]` layer by layer."""
    x = embed_layout(model.embed_text(batch.ids[:1]), model.embed_speech(batch.latents[:1]), layout)
    length = x.shape[1]
    cos, sin = model.cos[:length], model.sin[:length]
    seen = torch.ones(length, length, dtype=torch.bool, device=x.device).tril() & layout.attention_mask[0]
    seen |= torch.eye(length, dtype=torch.bool, device=x.device)
    for layer in model.layers:
        q, k, _ = (part.transpose(1, 2) for part in layer.self_attn._qkv(layer.input_layernorm(x)))
        score = rotate(q, cos, sin) @ rotate(k, cos, sin).transpose(-1, -2) / q.shape[-1] ** 0.5
        yield score.masked_fill(~seen, float("-inf")).softmax(-1)[0]
        x = layer.full(x, cos, sin, seen[None, None])
