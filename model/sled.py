"""The SLED network: text and speech embeddings, LLaMA backbone, stop head, per-token generator.

Module paths are those of the published checkpoint (`model.layers.0.self_attn.q_proj.weight`, ...).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sled_tts.model.config import SledConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.generator import Generator, Modulation
from sled_tts.model.kv_cache import KVCache
from sled_tts.model.layers import DecoderLayer, RaggedPlan, RMSNorm, rotary_table
from sled_tts.model.native.library import load
from sled_tts.model.native.step import NativeStep
from sled_tts.model.quantization import Precision, Projection


class Backbone(nn.Module):
    """Embedding table, decoder layers and final norm (`h = norm(...)`, no language-model head)."""

    def __init__(self, config: SledConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([DecoderLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class ScoreLoss(nn.Module):
    """Holds the generator under its published name, `scoreloss.net`."""

    def __init__(self, config: SledConfig) -> None:
        super().__init__()
        self.net = Generator(config)


class Sled(nn.Module):
    """SLED (arXiv 2505.13181): one continuous latent a step, offline or streaming."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: SledConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.model = Backbone(config)
        self.z_proj = Projection(config.latent_dim, size)
        self.z_proj_ln = nn.LayerNorm(size, eps=1e-6)
        self.eos_head = nn.Linear(size, 1, bias=False)
        self.scoreloss = ScoreLoss(config)
        cos, sin = rotary_table(config.max_position_embeddings, config.head_dim, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.compiled: NativeStep | None = None
        self.cache_dtype: torch.dtype | None = None

    @property
    def layers(self) -> list[DecoderLayer]:
        return list(cast("Iterable[DecoderLayer]", self.model.layers))

    @property
    def generator(self) -> Generator:
        return self.scoreloss.net

    def embed_text(self, ids: Tensor) -> Tensor:
        """Token ids `[...]` to inputs `[..., H]`; the LayerNorm is shared with speech."""
        out: Tensor = self.z_proj_ln(self.model.embed_tokens(ids))
        return out

    def embed_speech(self, latents: Tensor) -> Tensor:
        """Latents `[..., D]` to inputs `[..., H]`."""
        out: Tensor = self.z_proj_ln(self.z_proj(latents))
        return out

    def stop_logit(self, hidden: Tensor) -> Tensor:
        """Stop logits `[...]` of unguided conditional hidden states `[..., H]`."""
        out: Tensor = self.eos_head(hidden)
        return out[..., 0]

    def latents(self, z: Tensor, ahead: Modulation, slots: Sequence[int], index: Sequence[int]) -> Tensor:
        """Latents `[B, D]` for conditions `z [B, H]`, by the fastest way there is.

        Row r is modulated by frame `index[r]` of slot `slots[r]` of what was computed `ahead`, `[slots, frames, ...]`.
        """
        if self.compiled is not None:
            frames = ahead.final.shape[1]
            return self.compiled.latents(z, ahead, [s * frames + i for s, i in zip(slots, index, strict=True)])
        at = torch.tensor([slots, index], device=z.device)
        chosen = Modulation([block[at[0], at[1]] for block in ahead.blocks], ahead.final[at[0], at[1]])
        return self.generator.from_modulation(z, chosen)

    def forward_full(self, embeds: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Without cache, for training: `embeds [B, L, H] -> hidden [B, L, H]`.

        `attention_mask [B, L]` (1 = real) may pad on either side; None means every column is real or lies
        after the last real one. Positions count all columns, padding included, as the reference trains.
        """
        length = embeds.shape[1]
        if length > self.config.max_position_embeddings:
            raise ModelError(f"{length} positions exceed the limit of {self.config.max_position_embeddings}")
        mask = None
        if attention_mask is not None:
            causal = torch.ones(length, length, dtype=torch.bool, device=embeds.device).tril()
            mask = causal & attention_mask.bool()[:, None, None, :]
            # A padded query has nothing to see; let it see itself, or softmax turns into NaN.
            mask = mask | torch.eye(length, dtype=torch.bool, device=embeds.device)
        x = embeds
        for layer in self.layers:
            x = layer.full(x, self.cos[:length], self.sin[:length], mask)
        out: Tensor = self.model.norm(x)
        return out

    def plan(self, cache: KVCache, rows: Sequence[int], counts: Sequence[int]) -> RaggedPlan:
        """Place `counts[i] >= 1` new tokens at the end of cache row `rows[i]`, all rows out of step.

        Raises ModelError when a row would pass the cache's capacity or the model's position limit.
        """
        device = self.cos.device
        limit = min(cache.capacity, self.config.max_position_embeddings)
        starts = [cache.lengths[row] for row in rows]
        for row, start, count in zip(rows, starts, counts, strict=True):
            if start + count > limit:
                raise ModelError(f"row {row} would hold {start + count} positions, the limit is {limit}")
        columns = max(counts)
        live = max(start + count for start, count in zip(starts, counts, strict=True))
        # A few idle rows in between cost less than copying everybody's keys and values out of the cache.
        contiguous = max(rows) < 2 * len(rows)
        held = list(range(max(rows) + 1)) if contiguous else list(rows)
        place = list(rows) if contiguous else list(range(len(rows)))
        query_row = torch.tensor(
            [i for i, count in zip(place, counts, strict=True) for _ in range(count)], device=device
        )
        query_col = torch.tensor([j for count in counts for j in range(count)], device=device)
        row_index = torch.tensor(held, device=device)
        start_index = torch.tensor([cache.lengths[row] for row in held], device=device)
        position = start_index[query_row] + query_col
        allowed = start_index[:, None] + torch.arange(columns, device=device)
        mask = torch.arange(live, device=device)[None, None, :] <= allowed[:, :, None]
        return RaggedPlan(
            rows=row_index,
            contiguous=contiguous,
            row_of=row_index[query_row],
            position=position,
            query_row=query_row,
            query_col=query_col,
            columns=columns,
            mask=mask[:, None],
            cos=self.cos[position],
            sin=self.sin[position],
        )

    def forward(self, embeds: Tensor, cache: KVCache, rows: Sequence[int], counts: Sequence[int]) -> Tensor:
        """Packed `embeds [sum(counts), H]` of distinct cache rows to hidden states of the same shape.

        Prefill rows, rows reading text and rows feeding a single latent share one call; each row's tokens
        are appended at its own position.
        """
        plan = self.plan(cache, rows, counts)
        x = embeds
        for layer, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            x = layer.cached(x, keys, values, plan)
        for row, count in zip(rows, counts, strict=True):
            cache.lengths[row] += count
        out: Tensor = self.model.norm(x)
        return out

    def prepare_for_inference(self, precision: Precision = Precision.FP32, *, compiled: bool = True) -> Sled:
        """Evaluation mode, frozen, projections fused and packed. The state dict is unchanged.

        `precision` is for the large matrices, on a CPU; the layers that touch latents and noise stay in fp32.
        `compiled` allows the compiled kernels (`model.native`), with which packed steps keep their keys and values in
        bf16 unless the weights are in fp32.
        """
        self.eval().requires_grad_(False)
        exact = self.z_proj.weight.device.type == "cpu" and self.z_proj.weight.dtype == torch.float32
        native = load() if compiled and exact else None
        for layer in self.layers:
            layer.pack(precision, native)
        self.z_proj.pack(Precision.FP32, native)
        self.generator.pack(precision, native)
        self.compiled = None if native is None else NativeStep.of(native, self)
        self.cache_dtype = self.z_proj.weight.dtype
        if self.compiled is not None and precision is not Precision.FP32:
            self.cache_dtype = torch.bfloat16
        return self

    def release_weights(self) -> None:
        """Keep only the packed copy of what is packed; the model can no longer be saved."""
        for module in self.model.layers.modules():
            if isinstance(module, Projection):
                module.release()
        for module in [self.z_proj, *self.generator.modules()]:
            if isinstance(module, Projection):
                module.release()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Initialise for training from nothing, as the reference does."""
        for module in self.model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for linear in (self.z_proj, self.eos_head):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.z_proj.bias)
        self.generator.init_weights()
