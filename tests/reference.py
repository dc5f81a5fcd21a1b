"""A naive SLED: the oracle every fast path is held against.

Written from the published description (arXiv 2505.13181) over a plain state dict: float64, one sequence at a
time, no cache, no batching, no padding; every step recomputes everything. It shares no code with the product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Entry = tuple[str, int]
"""One position of a sequence: ("text", token id) or ("speech", frame index)."""


@dataclass
class Steps:
    """What every step saw and made: latents `[S, D]`, z and hidden `[S, H]`, stop logits `[S]`."""

    latents: Tensor
    z: Tensor
    hidden: Tensor
    logits: Tensor


def norm(x: Tensor, eps: float) -> Tensor:
    """LayerNorm without affine."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()


class NaiveSled:
    """`config` is the published `config.json` mapping, `state` the published state dict."""

    def __init__(self, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
        self.c = config
        self.w = {name: tensor if tensor.requires_grad else tensor.double() for name, tensor in state.items()}

    def rms(self, x: Tensor, name: str) -> Tensor:
        mean_square = x.pow(2).mean(-1, keepdim=True)
        return x / torch.sqrt(mean_square + float(self.c["rms_norm_eps"])) * self.w[name]

    def linear(self, x: Tensor, name: str) -> Tensor:
        out = x @ self.w[f"{name}.weight"].T
        return out + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else out

    def embed(self, sequence: Sequence[Entry], latents: Tensor) -> Tensor:
        """Inputs `[L, H]`: token rows or projected latents, then the LayerNorm both share."""
        table = self.w["model.embed_tokens.weight"]
        rows = [table[i] if kind == "text" else self.linear(latents[i], "z_proj") for kind, i in sequence]
        return norm(torch.stack(rows), 1e-6) * self.w["z_proj_ln.weight"] + self.w["z_proj_ln.bias"]

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate-half positions on `x [L, head_dim]`, one pair of components at a time."""
        half = x.shape[-1] // 2
        out: list[Tensor] = [x[:, 0]] * (2 * half)
        for i in range(half):
            angle = positions.double() * self.c["rope_theta"] ** (-2.0 * i / x.shape[-1])
            a, b = x[:, i], x[:, i + half]
            out[i] = a * angle.cos() - b * angle.sin()
            out[i + half] = b * angle.cos() + a * angle.sin()
        return torch.stack(out, dim=-1)

    def states(self, inputs: Tensor, positions: Tensor | None = None) -> Tensor:
        """Hidden states `[L, H]` after the final norm, each position seeing itself and those before it."""
        length, size = inputs.shape
        where = torch.arange(length) if positions is None else positions
        heads = self.c["num_attention_heads"]
        width = size // heads
        x = inputs
        for number in range(self.c["num_hidden_layers"]):
            layer = f"model.layers.{number}"
            y = self.rms(x, f"{layer}.input_layernorm.weight")
            q, k, v = (self.linear(y, f"{layer}.self_attn.{p}_proj") for p in "qkv")
            mixed = []
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                score = self.rope(q[:, part], where) @ self.rope(k[:, part], where).T / width**0.5
                future = torch.ones(length, length, dtype=torch.bool).triu(1)
                mixed.append(score.masked_fill(future, float("-inf")).softmax(-1) @ v[:, part])
            x = x + self.linear(torch.cat(mixed, -1), f"{layer}.self_attn.o_proj")
            y = self.rms(x, f"{layer}.post_attention_layernorm.weight")
            gate, up = self.linear(y, f"{layer}.mlp.gate_proj"), self.linear(y, f"{layer}.mlp.up_proj")
            x = x + self.linear(gate * gate.sigmoid() * up, f"{layer}.mlp.down_proj")
        return self.rms(x, "model.norm.weight")

    def generator(self, z: Tensor, noise: Tensor) -> Tensor:
        """One latent `[D]` from a conditioning vector and noise."""
        net = "scoreloss.net"
        x, y = self.linear(z, f"{net}.cond_embed"), self.linear(noise.double(), f"{net}.input_proj")
        for number in range(self.c["diffloss_d"]):
            block = f"{net}.res_blocks.{number}"
            told = norm(y, 1e-6) * self.w[f"{block}.noise_ln.weight"] + self.w[f"{block}.noise_ln.bias"]
            mod = self.linear(told * told.sigmoid(), f"{block}.adaLN_modulation.1")
            shift, scale, gate = mod.chunk(3, dim=-1)
            h = self.linear(norm(x, 1e-6) * (1 + scale) + shift, f"{block}.mlp.0")
            x = x + gate * self.linear(h * h.sigmoid(), f"{block}.mlp.2")
        shift, scale = self.linear(y * y.sigmoid(), f"{net}.final_layer.adaLN_modulation.1").chunk(2, dim=-1)
        return self.linear(norm(x, 1e-6) * (1 + scale) + shift, f"{net}.final_layer.linear")

    def before_frame(self, frame: int, ids: Sequence[int], n: int | None, m: int | None) -> list[Entry]:
        """Everything the network has read when it predicts frame number `frame`."""
        if n is None or m is None:
            return [("text", i) for i in ids] + [("speech", s) for s in range(frame)]
        turns = -(-len(ids) // n)
        out: list[Entry] = []
        written = 0
        for turn in range(turns):
            out += [("text", i) for i in ids[n * turn : n * turn + n]]
            count = frame - written if turn == turns - 1 else min(m, frame - written)
            out += [("speech", written + s) for s in range(count)]
            written += count
            # A turn that is not yet full has the frame we predict; later turns have not been read.
            if turn < turns - 1 and count < m:
                break
        return out

    def synthesise(
        self,
        ids: Sequence[int],
        noise: Tensor,
        cfg: float,
        *,
        n: int | None = None,
        m: int | None = None,
        prompt: Tensor | None = None,
        prompt_ids: Sequence[int] = (),
    ) -> Steps:
        """One step per row of `noise [S, C]`, no stop; a prompt `[P, D]` counts as frames already written.

        With `prompt_ids` it stands in front with its text, in turns of its own: n tokens, m frames, ... and, when
        either runs out, what is left of the other.
        """
        frames = [] if prompt is None else list(prompt.double())
        told = len(frames)
        block: list[Entry] = []
        if prompt_ids:
            assert n is not None
            assert m is not None
            words, spoken = [("text", i) for i in prompt_ids], [("speech", s) for s in range(told)]
            while len(words) >= n and len(spoken) >= m:
                block, words, spoken = [*block, *words[:n], *spoken[:m]], words[n:], spoken[m:]
            block += words[:n] + spoken + words[n:]
        z_all, hidden_all = [], []
        for draw in noise:
            known = torch.stack(frames) if frames else torch.zeros(0, self.c["vae_embed_dim"]).double()
            read = self.before_frame(len(frames), ids, n, m)
            if prompt_ids:
                fresh = self.before_frame(len(frames) - told, ids, n, m)
                read = block + [(kind, i if kind == "text" else told + i) for kind, i in fresh]
            hidden = self.states(self.embed(read, known))[-1]
            blind: list[Entry] = [("text", self.c["eos_token_id"])]
            blind += [("speech", s) for s in range(len(frames))]
            other = self.states(self.embed(blind, known))[-1]
            z = other + cfg * (hidden - other)
            frames.append(self.generator(z, draw))
            z_all.append(z)
            hidden_all.append(hidden)
        hidden = torch.stack(hidden_all)
        logits = self.linear(hidden, "eos_head")[:, 0]
        return Steps(torch.stack(frames[told:]), torch.stack(z_all), hidden, logits)

    def loss(
        self,
        ids: Tensor,
        text_mask: Tensor,
        latents: Tensor,
        speech_mask: Tensor,
        noise: tuple[Tensor, Tensor],
        n: int | None = None,
        m: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Energy and stop loss of a padded batch, row by row; masked positions are left out, not masked."""
        texts, frames = ids.shape[1], latents.shape[1]
        columns = [("text", t) for t in range(texts)] + [("speech", s) for s in range(frames)]
        if n is not None and m is not None:
            cycles = min(texts // n, frames // m)
            columns = []
            for cycle in range(cycles):
                columns += [("text", n * cycle + i) for i in range(n)]
                columns += [("speech", m * cycle + i) for i in range(m)]
            rest = list(range(cycles * n, texts))
            columns += [("text", t) for t in rest[:n]]
            columns += [("speech", s) for s in range(cycles * m, frames)]
            columns += [("text", t) for t in rest[n:]]
        energies, stops = [], []
        for row in range(ids.shape[0]):
            masks = {"text": text_mask[row], "speech": speech_mask[row]}
            kept = [(p, kind, i) for p, (kind, i) in enumerate(columns) if masks[kind][i]]
            sequence = [(kind, int(ids[row, i]) if kind == "text" else i) for _, kind, i in kept]
            where = torch.tensor([p for p, _, _ in kept])
            states = self.states(self.embed(sequence, latents[row].double()), where)
            real = int(speech_mask[row].sum())
            for s in range(real + 1):
                at = columns.index(("speech", s)) if s < frames else columns.index(("speech", s - 1)) + 1
                z = states[int((where < at).sum()) - 1]
                probability = self.linear(z, "eos_head")[0].sigmoid()
                stops.append(-100.0 * probability.log() if s == real else -(1 - probability).log())
                if s < real:
                    a, b = (self.generator(z, draw[row, s]) for draw in noise)
                    y = latents[row, s].double()
                    energies.append((a - y).norm() + (b - y).norm() - (a - b).norm())
        return torch.stack(energies).mean(), torch.stack(stops).mean()
