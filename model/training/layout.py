"""How text and speech are laid out in a training batch, offline and streaming (specs of the reference)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sled_tts.model.config import SledConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.interleave import training_layout


@dataclass(frozen=True)
class TrainingLayout:
    """Where everything sits in the joint sequence of L positions.

    `text_index [B, L]`, `speech_index [B, L]`: which text column or frame a position holds, -1 for neither.
    `attention_mask [B, L]`: 1 for real, attended positions. `condition [B, S + 1]`: the position whose state
    predicts frame s (and, after the last frame, the stop); 0 where there is none.
    """

    text_index: Tensor
    speech_index: Tensor
    attention_mask: Tensor
    condition: Tensor

    def to(self, device: torch.device) -> TrainingLayout:
        if self.condition.device == device:
            return self
        parts = (self.text_index, self.speech_index, self.attention_mask, self.condition)
        return TrainingLayout(*(part.to(device) for part in parts))


def offline_layout(text_mask: Tensor, speech_mask: Tensor) -> TrainingLayout:
    """Text (left-padded) then speech (right-padded): `z_i` is the state just before frame i."""
    batch, text_len = text_mask.shape
    frames = speech_mask.shape[1]
    device = text_mask.device
    columns = torch.arange(text_len + frames, device=device).expand(batch, -1)
    return TrainingLayout(
        text_index=torch.where(columns < text_len, columns, -1),
        speech_index=torch.where(columns >= text_len, columns - text_len, -1),
        attention_mask=torch.cat([text_mask.bool(), speech_mask.bool()], dim=1),
        condition=torch.arange(frames + 1, device=device).expand(batch, -1) + text_len - 1,
    )


def streaming_layout(text_mask: Tensor, speech_mask: Tensor, n: int, m: int) -> TrainingLayout:
    """Text and speech interleaved n:m in one order for the whole batch, as the reference trains.

    The order follows the padded sizes, so a short row keeps masked holes where others have text or speech.
    The condition of a frame is the last attended position before it; the state after the last column of
    speech is that column itself.
    """
    batch, text_len = text_mask.shape
    frames = speech_mask.shape[1]
    is_text = torch.tensor(training_layout(text_len, frames, n, m))
    text_at, speech_at = is_text.nonzero()[:, 0], (~is_text).nonzero()[:, 0]
    length = text_len + frames
    attention_mask = torch.zeros(batch, length, dtype=torch.bool)
    attention_mask[:, text_at] = text_mask.bool()
    attention_mask[:, speech_at] = speech_mask.bool()
    text_index, speech_index = torch.full((length,), -1), torch.full((length,), -1)
    text_index[text_at], speech_index[speech_at] = torch.arange(text_len), torch.arange(frames)
    live = torch.where(attention_mask, torch.arange(length), -1).cummax(dim=1).values
    before = live[:, (speech_at - 1).clamp(min=0)].clamp(min=0)
    after_last = speech_at[-1:].expand(batch, 1)
    return TrainingLayout(
        text_index=text_index.expand(batch, -1),
        speech_index=speech_index.expand(batch, -1),
        attention_mask=attention_mask,
        condition=torch.cat([before, after_last], dim=1),
    )


@dataclass(frozen=True)
class PromptSpan:
    """How much of a row, from its start, is a speech prompt: another utterance of the same speaker."""

    tokens: int = 0
    frames: int = 0


NO_PROMPT = PromptSpan()


def compact_streaming_layout(
    text_lengths: list[int], frames: list[int], n: int, m: int, prompts: Sequence[PromptSpan] | None = None
) -> TrainingLayout:
    """Each row interleaved by its own lengths and padded at the end only.

    Unlike the reference's, positions in training are those of inference whatever the row is batched with,
    and causal attention needs no mask. A prompt is a block of its own, after which the turns start afresh: it does
    not depend on the text to come.
    """
    spans = prompts or [NO_PROMPT] * len(frames)
    orders = [
        training_layout(p.tokens, p.frames, n, m) + training_layout(t - p.tokens, s - p.frames, n, m)
        for t, s, p in zip(text_lengths, frames, spans, strict=True)
    ]
    length, most = max(map(len, orders)), max(frames)
    text_index = torch.full((len(orders), length), -1)
    speech_index = torch.full((len(orders), length), -1)
    attention_mask = torch.zeros(len(orders), length, dtype=torch.bool)
    condition = torch.zeros(len(orders), most + 1, dtype=torch.long)
    for row, order in enumerate(orders):
        is_text = torch.tensor(order)
        text_at, speech_at = is_text.nonzero()[:, 0], (~is_text).nonzero()[:, 0]
        text_index[row, text_at] = torch.arange(len(text_at))
        speech_index[row, speech_at] = torch.arange(len(speech_at))
        attention_mask[row, : len(order)] = True
        condition[row, : len(speech_at)] = speech_at - 1
        condition[row, len(speech_at)] = speech_at[-1]
    return TrainingLayout(text_index, speech_index, attention_mask, condition)


def embed_layout(embedded_text: Tensor, embedded_speech: Tensor, layout: TrainingLayout) -> Tensor:
    """Gather text `[B, T, H]` and speech `[B, S, H]` embeddings into the joint sequence `[B, L, H]`."""
    size = embedded_text.shape[-1]

    def gather(source: Tensor, index: Tensor) -> Tensor:
        return source.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, size))

    is_text = (layout.text_index >= 0)[..., None]
    return torch.where(is_text, gather(embedded_text, layout.text_index), gather(embedded_speech, layout.speech_index))


def layout_for(
    config: SledConfig,
    text_mask: Tensor,
    speech_mask: Tensor,
    *,
    compact: bool = False,
    prompts: Sequence[PromptSpan] | None = None,
    pacing: tuple[int, int] | None = None,
) -> TrainingLayout:
    """The layout a model of this configuration trains on. Masks are `[B, T]` and `[B, S]`; the layout is on their
    device. `pacing` is an n:m other than the configuration's.

    Raises ModelError for prompts in a layout that has no place for them.
    """
    device = text_mask.device
    if config.stream_n is None or config.stream_m is None:
        if prompts is not None or pacing is not None:
            raise ModelError("prompts and pacing need a streaming layout; offline a prompt is more text and speech")
        return offline_layout(text_mask, speech_mask)
    n, m = pacing or (config.stream_n, config.stream_m)
    if compact:
        lengths = text_mask.sum(1).tolist(), speech_mask.sum(1).tolist()
        return compact_streaming_layout(*lengths, n, m, prompts).to(device)
    if prompts is not None:
        raise ModelError("prompts need the compact streaming layout")
    return streaming_layout(text_mask.cpu(), speech_mask.cpu(), n, m).to(device)
