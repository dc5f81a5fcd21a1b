"""Where in the text the network looks while it speaks: the picture by which training is judged."""

from __future__ import annotations

import torch
from torch import Tensor

from sled_tts.model.layers import DecoderLayer, rotate
from sled_tts.model.sled import Sled
from sled_tts.model.training.batches import Batch
from sled_tts.model.training.layout import embed_layout, layout_for


@torch.no_grad()
def attention_map(model: Sled, batch: Batch) -> Tensor:
    """`[layers, S, T]`: for the first row of `batch`, how much of each speech position's attention goes to each text
    column, mean over heads. Rows sum to one or less; a head that follows the text draws a diagonal."""
    config = model.config
    layout = layout_for(
        config,
        batch.text_mask[:1],
        batch.speech_mask[:1],
        compact=True,
        prompts=batch.prompts[:1] if config.is_streaming else None,
    )
    x = embed_layout(model.embed_text(batch.ids[:1]), model.embed_speech(batch.latents[:1]), layout)
    length = x.shape[1]
    cos, sin = model.cos[:length], model.sin[:length]
    seen = torch.ones(length, length, dtype=torch.bool, device=x.device).tril() & layout.attention_mask[0]
    seen |= torch.eye(length, dtype=torch.bool, device=x.device)
    speech, text = layout.speech_index[0] >= 0, layout.text_index[0] >= 0
    maps = []
    for layer in model.layers:
        assert isinstance(layer, DecoderLayer)
        q, k, _ = (part.transpose(1, 2) for part in layer.self_attn._qkv(layer.input_layernorm(x)))
        score = rotate(q, cos, sin) @ rotate(k, cos, sin).transpose(-1, -2) / q.shape[-1] ** 0.5
        weight = score.masked_fill(~seen, float("-inf")).softmax(-1).mean(1)[0]
        maps.append(weight[speech][:, text])
        x = layer.full(x, cos, sin, seen[None, None])
    return torch.stack(maps)
