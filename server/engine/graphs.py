"""Steps that only write speech, with static shapes: captured as CUDA graphs, one for each bucket.

A bucket is (slots, keys): slots `0 .. slots - 1` all take part, each row looks at the first `keys` positions. A slot
that is not chosen computes along: what it writes lands on its own next position and frame, where its next real step
writes again. So indices, shapes and addresses never change, and nothing needs gathering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from sled_tts.model.layers import DecoderLayer, rotate
from sled_tts.model.sled import Sled
from sled_tts.server.engine.state import NOISE_BLOCK, EngineState

_KEY_STEP = 256


@dataclass(frozen=True)
class Buckets:
    """Which shapes exist: powers of two up to `slots`, multiples of 256 up to `positions`."""

    slots: int
    positions: int

    @property
    def widths(self) -> tuple[int, ...]:
        sizes = [1]
        while sizes[-1] < self.slots:
            sizes.append(min(2 * sizes[-1], self.slots))
        return tuple(sizes)

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(min(k, self.positions) for k in range(_KEY_STEP, self.positions + _KEY_STEP, _KEY_STEP))

    def fit(self, slots: Sequence[int], longest: int) -> tuple[int, int]:
        """The smallest bucket that holds these slots, whose longest row will hold `longest` positions."""
        width = next(w for w in self.widths if w > max(slots))
        return width, next(d for d in self.depths if d >= longest)


@dataclass
class StepBuffers:
    """What changes from step to step, at fixed addresses: `where [5, slots]` holds, for each slot, the position of
    its conditional and of its guidance row, the frame to write, the modulation to use, and whether it is guided."""

    where: Tensor
    staging: Tensor

    @classmethod
    def allocate(cls, slots: int, device: torch.device) -> StepBuffers:
        pinned = device.type == "cuda"
        return cls(
            torch.zeros(5, slots, dtype=torch.long, device=device),
            torch.zeros(5, slots, dtype=torch.long, pin_memory=pinned),
        )

    def fill(self, state: EngineState, width: int) -> None:
        """Copy the first `width` slots' places to the device, clamped so that idle full slots stay inside."""
        last = state.latents.shape[1] - 1
        lengths = state.cache.lengths
        self.staging[:, :width] = torch.tensor(
            [
                [min(lengths[2 * s], last) for s in range(width)],
                [min(lengths[2 * s + 1], last) for s in range(width)],
                [min(state.filled[s], last) for s in range(width)],
                [min(state.used[s], NOISE_BLOCK - 1) for s in range(width)],
                [int(state.guided[s]) for s in range(width)],
            ]
        )
        self.where.copy_(self.staging, non_blocking=True)


def speech_step(
    sled: Sled, state: EngineState, stop_weight: Tensor, buffers: StepBuffers, width: int, keys: int
) -> Tensor:
    """Every slot below `width` feeds its last latent and samples the next.

    Returns codes `[width]`: 1 for a stop, plus 2 when the latent is not finite.
    Reads and writes only `state` and `buffers`, so it can be captured.
    """
    told, free, frame, used, guided = (row[:width] for row in buffers.where.unbind(0))
    slots = torch.arange(width, device=told.device)
    latents = state.latents[slots, (frame - 1).clamp(min=0)].to(stop_weight.dtype)
    # Row order of the cache: conditional and guidance row of slot 0, of slot 1, ...
    x = sled.embed_speech(latents).repeat_interleave(2, dim=0)
    position = torch.stack([told, free], dim=1).flatten()
    rows = torch.arange(2 * width, device=told.device)
    cos, sin = sled.cos[position][:, None], sled.sin[position][:, None]
    mask = (torch.arange(keys, device=told.device) <= position[:, None])[:, None, None]
    for layer, held_k, held_v in zip(sled.model.layers, state.cache.keys, state.cache.values, strict=True):
        assert isinstance(layer, DecoderLayer)
        attention = layer.self_attn
        q, k, v = attention._qkv(layer.input_layernorm(x))
        held_k[rows, :, position] = rotate(k, cos, sin)
        held_v[rows, :, position] = v
        out = F.scaled_dot_product_attention(
            rotate(q, cos, sin)[:, :, None],
            held_k[: 2 * width, :, :keys],
            held_v[: 2 * width, :, :keys],
            attn_mask=mask,
        )
        x = layer._feed_forward(x + attention.o_proj(out.flatten(1)))
    hidden = sled.model.norm(x).unflatten(0, (width, 2))
    conditional, unconditional = hidden[:, 0], hidden[:, 1]
    scale = state.scale[:width, None].to(hidden.dtype)
    merged = unconditional + scale * (conditional - unconditional)
    z = torch.where(guided[:, None] > 0, merged, conditional)
    made = sled.generator.from_modulation(z, state.modulation(slots, used)).float()
    state.latents[slots, frame] = made
    stopped = F.linear(conditional, stop_weight)[:, 0].float() >= state.stop_at[:width]
    return stopped.int() + 2 * (~torch.isfinite(made).all(dim=-1)).int()


@dataclass
class SpeechGraphs:
    """Captured `speech_step`s. On a device without graphs `run` executes the same function directly."""

    sled: Sled
    state: EngineState
    stop_weight: Tensor
    buckets: Buckets
    graphed: bool
    buffers: StepBuffers = field(init=False)
    _captured: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.buffers = StepBuffers.allocate(self.buckets.slots, self.sled.cos.device)

    def run(self, slots: Sequence[int]) -> list[int]:
        """Step these slots by one frame each; codes in their order. The caller advances the host's counters."""
        lengths = self.state.cache.lengths
        longest = 1 + max(max(lengths[2 * s], lengths[2 * s + 1]) for s in slots)
        bucket = self.buckets.fit(slots, longest)
        self.buffers.fill(self.state, bucket[0])
        codes = self._replay(bucket).tolist()
        return [codes[s] for s in slots]

    def capture_all(self) -> int:
        """Capture every bucket, before any request is admitted: it writes to all slots. Returns how many."""
        if not self.graphed:
            return 0
        for width in reversed(self.buckets.widths):
            for keys in reversed(self.buckets.depths):
                self._replay((width, keys))
        return len(self._captured)

    def _step(self, bucket: tuple[int, int]) -> Tensor:
        return speech_step(self.sled, self.state, self.stop_weight, self.buffers, *bucket)

    def _replay(self, bucket: tuple[int, int]) -> Tensor:
        if not self.graphed:
            return self._step(bucket)
        if bucket not in self._captured:
            self._capture(bucket)
        graph, codes = self._captured[bucket]
        graph.replay()
        return codes

    def _capture(self, bucket: tuple[int, int]) -> None:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._step(bucket)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            codes = self._step(bucket)
        self._captured[bucket] = (graph, codes)
