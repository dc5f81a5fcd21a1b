"""Stateful streaming decode: PCM equal to offline decode for any chunking, batched over slots.

Rows of one call may belong to streams that are out of step: rows with the same chunk length and the same freshness
share a forward pass. The first chunk of a slot needs `first_chunk_frames` latents unless it is also the last,
because causal convolutions reflect that many frames around frame 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sled_tts.model.codec.networks import (
    CausalConv1d,
    CausalConvTranspose1d,
    ResidualBlock,
    ResidualLSTM,
    SEANetDecoder,
)
from sled_tts.model.codec.precision import full_precision
from sled_tts.model.codec.stream_layers import (
    ConvState,
    ConvStep,
    ConvTransposeState,
    ConvTransposeStep,
    LSTMState,
    LSTMStep,
    ResidualStep,
    elu,
)

# Longer chunks are decoded in spans of about so many frames over all rows, which stay in the processor's cache.
_SPAN_FRAMES, _SPAN_SHORTEST, _SPAN_LONGEST = 32, 4, 16

Step = ConvStep | ConvTransposeStep | LSTMStep | ResidualStep | None
LayerState = ConvState | ConvTransposeState | LSTMState | None


def _step(layer: nn.Module) -> Step:
    """The streaming counterpart of one decoder layer; None for the activation, which has no memory."""
    if isinstance(layer, CausalConv1d):
        return ConvStep(layer)
    if isinstance(layer, CausalConvTranspose1d):
        return ConvTransposeStep(layer)
    if isinstance(layer, ResidualLSTM):
        return LSTMStep(layer)
    if isinstance(layer, ResidualBlock):
        return ResidualStep(layer)
    if isinstance(layer, nn.ELU):
        return None
    raise TypeError(f"no streaming counterpart of {type(layer).__name__}")


SlotState = list[list[Tensor]]
"""One slot's memory, layer by layer."""


def _memories(state: LayerState) -> list[tuple[Tensor, int]]:
    """A layer's tensors, each with the axis that counts slots."""
    match state:
        case ConvState():
            return [(state.context, 0)]
        case ConvTransposeState():
            return [(state.owed, 0)]
        case LSTMState():
            return [(state.hidden, 1), (state.cell, 1)]
        case _:
            return []


@dataclass
class DecoderState:
    """All memory of the decoder: one state a layer (None where it has none), and which slots hold nothing yet."""

    layers: list[LayerState]
    fresh: list[bool]


class StreamingDecoder:
    """Streaming counterpart of a `SEANetDecoder` for a fixed number of slots.

    Weights are copied in a streaming layout when it is made: make it after the codec is on its device.
    """

    def __init__(self, decoder: SEANetDecoder, slots: int, first_chunk_frames: int) -> None:
        if slots < 1:
            raise ValueError(f"slots must be >= 1, got {slots}")
        self.steps = [_step(layer) for layer in decoder.model]
        self.slots = slots
        self.first_chunk_frames = first_chunk_frames
        self.state = DecoderState([None if s is None else s.allocate(slots) for s in self.steps], [True] * slots)
        first = decoder.model[0]
        assert isinstance(first, CausalConv1d)
        self._device, self._width = first.inner.weight.device, first.inner.in_channels

    def reset(self, slots: Sequence[int]) -> None:
        """Forget everything about these slots; their next chunk starts an utterance."""
        for slot in slots:
            self.state.fresh[slot] = True

    def snapshot(self, slot: int) -> SlotState:
        """A copy of everything a slot remembers. Raises ValueError when it has decoded nothing."""
        if self.state.fresh[slot]:
            raise ValueError(f"slot {slot} has decoded nothing yet")
        return [[memory.select(axis, slot).clone() for memory, axis in _memories(s)] for s in self.state.layers]

    def restore(self, slot: int, held: SlotState) -> None:
        """Go on in `slot` where `snapshot` was taken."""
        for state, parts in zip(self.state.layers, held, strict=True):
            for (memory, axis), part in zip(_memories(state), parts, strict=True):
                memory.select(axis, slot).copy_(part)
        self.state.fresh[slot] = False

    @torch.inference_mode()
    def decode(
        self, chunks: Sequence[Tensor], slots: Sequence[int], final: Sequence[bool] | None = None
    ) -> list[Tensor]:
        """Decode one chunk for each of some slots.

        `chunks[i]` is `[S_i, D]` for slot `slots[i]`; returns `[S_i * hop]` fp32 samples for each. Nothing has
        changed when it raises ValueError: a slot occurs twice or does not exist, a chunk has another width, or a
        slot's first chunk is too short and not final.
        """
        self._check(chunks, slots, final)
        fresh = self.state.fresh
        groups: dict[tuple[int, bool], list[int]] = {}
        for row, (chunk, slot) in enumerate(zip(chunks, slots, strict=True)):
            if chunk.shape[0]:
                groups.setdefault((chunk.shape[0], fresh[slot]), []).append(row)
        out = [torch.zeros(0, device=self._device)] * len(chunks)
        for (_, is_fresh), rows in groups.items():
            index = torch.tensor([slots[row] for row in rows], device=self._device)
            stacked = torch.stack([chunks[row] for row in rows]).float()
            wave = self.run(stacked, index, is_fresh)
            for position, row in enumerate(rows):
                out[row] = wave[position]
                fresh[slots[row]] = False
        return out

    @torch.inference_mode()
    def run(self, latents: Tensor, slots: Tensor, fresh: bool) -> Tensor:
        """The device's part of `decode`: latents `[R, S, D]` of slots `[R]` that are all fresh, or none of them, to
        samples `[R, S * hop]`. Whoever calls it says afterwards that they are fresh no more (`state.fresh`)."""
        with full_precision(self._device):
            return self._spans(latents, slots, fresh)

    def _check(self, chunks: Sequence[Tensor], slots: Sequence[int], final: Sequence[bool] | None) -> None:
        if len(set(slots)) != len(slots):
            raise ValueError("a slot may occur only once in a call")
        for row, (chunk, slot) in enumerate(zip(chunks, slots, strict=True)):
            if not 0 <= slot < self.slots:
                raise ValueError(f"slot must be in 0..{self.slots - 1}, got {slot}")
            if chunk.ndim != 2 or chunk.shape[1] != self._width:
                raise ValueError(f"chunks must be [S, {self._width}], got {list(chunk.shape)}")
            last = final is not None and final[row]
            if self.state.fresh[slot] and not last and chunk.shape[0] < self.first_chunk_frames:
                raise ValueError(
                    f"the first chunk of a stream needs {self.first_chunk_frames} latents, got {chunk.shape[0]}"
                )

    def _spans(self, x: Tensor, slots: Tensor, fresh: bool) -> Tensor:
        length = min(_SPAN_LONGEST, max(_SPAN_SHORTEST, _SPAN_FRAMES // x.shape[0]))
        head = max(length, self.first_chunk_frames)
        rest = torch.split(x[:, head:], length, dim=1) if x.shape[1] > head else ()
        waves = [self._forward(x[:, :head], slots, fresh), *(self._forward(span, slots, False) for span in rest)]
        return torch.cat(waves, dim=1)

    def _forward(self, x: Tensor, slots: Tensor, fresh: bool) -> Tensor:
        """Latents `[R, S, D]` to samples `[R, S * hop]`."""
        for step, state in zip(self.steps, self.state.layers, strict=True):
            match step, state:
                case ConvStep() | ResidualStep(), ConvState():
                    x = step.run(x, state, slots, fresh)
                case ConvTransposeStep(), ConvTransposeState():
                    x = step.run(x, state, slots, fresh)
                case LSTMStep(), LSTMState():
                    x = step.run(x, state, slots, fresh)
                case _:
                    x = elu(x)
        return x[..., 0]
