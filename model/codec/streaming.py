"""Stateful streaming decode: PCM equal to offline decode for any chunking, batched over slots.

Every layer with memory has one State holding `[slots, ...]` tensors. Rows of one call may belong to
streams that are out of step: rows with the same chunk length and the same freshness share a forward
pass. The first chunk of a slot needs `first_chunk_frames` latents unless it is also the last, because
the first convolution reflects that many frames around frame 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sled_tts.model.codec.networks import (
    CausalConv1d,
    CausalConvTranspose1d,
    ResidualBlock,
    ResidualLSTM,
    SEANetDecoder,
    reflect_pad,
)


@dataclass
class ConvState:
    """The last `left_context` inputs of each slot, `[slots, C, context]`."""

    context: Tensor

    def run(self, layer: CausalConv1d, x: Tensor, slots: Tensor, fresh: bool) -> Tensor:
        span = self.context.shape[-1]
        if span == 0:
            unchanged: Tensor = layer.inner(x)
            return unchanged
        padded = reflect_pad(x, span, 0) if fresh else torch.cat([self.context[slots], x], dim=-1)
        self.context[slots] = padded[..., -span:]
        out: Tensor = layer.inner(padded)
        return out


@dataclass
class ConvTransposeState:
    """What the last inputs still owe to the next outputs (bias excluded), `[slots, C, overlap]`."""

    tail: Tensor

    def run(self, layer: CausalConvTranspose1d, x: Tensor, slots: Tensor, fresh: bool) -> Tensor:
        overlap = self.tail.shape[-1]
        inner = layer.inner
        out = F.conv_transpose1d(x, inner.weight, None, inner.stride)
        if not fresh:
            out[..., :overlap] += self.tail[slots]
        self.tail[slots] = out[..., out.shape[-1] - overlap :]
        emitted = out[..., : out.shape[-1] - overlap]
        return emitted if inner.bias is None else emitted + inner.bias[:, None]


@dataclass
class LSTMState:
    """Hidden and cell state, each `[layers, slots, C]`."""

    hidden: Tensor
    cell: Tensor

    def run(self, layer: ResidualLSTM, x: Tensor, slots: Tensor, fresh: bool) -> Tensor:
        steps = x.permute(2, 0, 1)
        if fresh:
            shape = (self.hidden.shape[0], x.shape[0], x.shape[1])
            start = (x.new_zeros(shape), x.new_zeros(shape))
        else:
            start = (self.hidden[:, slots], self.cell[:, slots])
        out, (hidden, cell) = layer.lstm(steps, start)
        self.hidden[:, slots], self.cell[:, slots] = hidden, cell
        result: Tensor = (out + steps).permute(1, 2, 0)
        return result


LayerState = ConvState | ConvTransposeState | LSTMState | None


class StreamingDecoder:
    """Streaming counterpart of a `SEANetDecoder` for a fixed number of slots."""

    def __init__(self, decoder: SEANetDecoder, slots: int, first_chunk_frames: int) -> None:
        self.layers = list(decoder.model)
        self.slots = slots
        self.first_chunk_frames = first_chunk_frames
        self.fresh = [True] * slots
        parameter = next(decoder.parameters())
        self._like = parameter
        self.states: list[list[LayerState]] = [
            [self._state(part) for part in (layer.block if isinstance(layer, ResidualBlock) else [layer])]
            for layer in self.layers
        ]

    def _state(self, layer: nn.Module) -> LayerState:
        if isinstance(layer, CausalConv1d):
            shape = (self.slots, layer.inner.in_channels, layer.left_context)
            return ConvState(self._like.new_zeros(shape))
        if isinstance(layer, CausalConvTranspose1d):
            shape = (self.slots, layer.inner.out_channels, layer.overlap)
            return ConvTransposeState(self._like.new_zeros(shape))
        if isinstance(layer, ResidualLSTM):
            shape = (layer.lstm.num_layers, self.slots, layer.lstm.hidden_size)
            zeros = self._like.new_zeros(shape)
            return LSTMState(zeros, zeros.clone())
        return None

    def reset(self, slots: Sequence[int]) -> None:
        """Forget everything about these slots; their next chunk starts an utterance."""
        for slot in slots:
            self.fresh[slot] = True

    @torch.inference_mode()
    def decode(
        self, chunks: Sequence[Tensor], slots: Sequence[int], final: Sequence[bool] | None = None
    ) -> list[Tensor]:
        """Decode one chunk for each of some slots.

        `chunks[i]` is `[S_i, D]` for slot `slots[i]`; returns `[S_i * hop]` samples for each.
        Raises ValueError when a slot occurs twice or its first chunk is too short and not final.
        """
        if len(set(slots)) != len(slots):
            raise ValueError("a slot may occur only once in a call")
        groups: dict[tuple[int, bool], list[int]] = {}
        for row, (chunk, slot) in enumerate(zip(chunks, slots, strict=True)):
            last = bool(final[row]) if final is not None else False
            if self.fresh[slot] and not last and chunk.shape[0] < self.first_chunk_frames:
                raise ValueError(
                    f"the first chunk of a stream needs {self.first_chunk_frames} latents, got {chunk.shape[0]}"
                )
            if chunk.shape[0]:
                groups.setdefault((chunk.shape[0], self.fresh[slot]), []).append(row)
        out = [self._like.new_zeros(0) for _ in chunks]
        for (_, fresh), rows in groups.items():
            stacked = torch.stack([chunks[row] for row in rows]).transpose(1, 2)
            index = torch.tensor([slots[row] for row in rows], device=stacked.device)
            wave = self._forward(stacked, index, fresh)
            for position, row in enumerate(rows):
                out[row] = wave[position, 0]
                self.fresh[slots[row]] = False
        return out

    def _forward(self, x: Tensor, slots: Tensor, fresh: bool) -> Tensor:
        for layer, states in zip(self.layers, self.states, strict=True):
            if isinstance(layer, ResidualBlock):
                y = x
                for part, state in zip(layer.block, states, strict=True):
                    y = self._apply(part, state, y, slots, fresh)
                x = layer.shortcut.inner(x) + y
            else:
                x = self._apply(layer, states[0], x, slots, fresh)
        return x

    @staticmethod
    def _apply(layer: nn.Module, state: LayerState, x: Tensor, slots: Tensor, fresh: bool) -> Tensor:
        if isinstance(layer, CausalConv1d) and isinstance(state, ConvState):
            return state.run(layer, x, slots, fresh)
        if isinstance(layer, CausalConvTranspose1d) and isinstance(state, ConvTransposeState):
            return state.run(layer, x, slots, fresh)
        if isinstance(layer, ResidualLSTM) and isinstance(state, LSTMState):
            return state.run(layer, x, slots, fresh)
        out: Tensor = layer(x)
        return out
