"""Replays recorded training cases of the reference implementation; see `model/parity.py`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sled_tts.model.recorded import Errors, difference, recorded_model
from sled_tts.model.training.layout import embed_layout, layout_for
from sled_tts.model.training.losses import drop_text, sled_loss


def _dropped_rows(data: dict[str, Tensor]) -> Tensor:
    """Rows `[B]` whose text the reference dropped (classifier-free guidance, in place in its forward pass)."""
    text_mask, after = data["in.attention_mask"].bool(), data.get("out.attention_mask_after")
    if after is not None and not torch.equal(after.bool(), text_mask):
        return (after.bool() != text_mask).any(dim=1)
    full = data.get("out.full_attention_mask")
    if full is None:
        return torch.zeros(text_mask.shape[0], dtype=torch.bool)
    return full.sum(1) != text_mask.sum(1) + data["in.speech_mask"].sum(1)


def replay_training(case: dict[str, Any], data: dict[str, Tensor]) -> Errors:
    """Loss, its parts, layout, hidden states, samples and every gradient."""
    model = recorded_model(case, data)
    speech_mask, noise = data["in.speech_mask"], (data["noise_1"], data["noise_2"])
    ids, text_mask = drop_text(
        data["in.input_ids"],
        data["in.attention_mask"],
        _dropped_rows(data),
        streaming=case["kind"] == "train_stream",
        eos=model.config.eos_token_id,
    )
    layout = layout_for(model.config, text_mask, speech_mask)
    joint = embed_layout(model.embed_text(ids), model.embed_speech(data["in.latents"]), layout)
    parts = sled_loss(model, ids, text_mask, data["in.latents"], speech_mask, noise)
    parts.loss.backward()  # type: ignore[no-untyped-call]
    real = speech_mask.bool()
    counted = torch.arange(real.shape[1] + 1)[None] <= real.sum(1, keepdim=True)
    states = parts.z[:, :-1]
    whole = torch.ones((), dtype=torch.bool)
    for name, got, select in (
        ("out.loss", parts.loss.reshape(1), whole),
        ("out.energy_loss", parts.energy.reshape(1), whole),
        ("out.eos_loss", parts.stop.reshape(1), whole),
        ("out.input_ids_after", ids, whole),
        ("out.attention_mask_after", text_mask, whole),
        ("out.full_attention_mask", layout.attention_mask, whole),
        ("out.inputs_embeds_after_ln", joint, whole),
        # What padded frames and the states after a row's end hold is never used.
        ("out.z", states, real),
        ("out.sample_1", model.generator(states, noise[0]), real),
        ("out.sample_2", model.generator(states, noise[1]), real),
        ("out.energy_per_frame", parts.energy_per_frame, real),
        ("out.eos_logits", parts.stop_logits, counted),
    ):
        if name in data:
            yield name, difference(got.detach()[select], data[name][select])
    for name, parameter in model.named_parameters():
        want = data.get(f"grad.{name}")
        if want is not None:
            got = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            yield f"grad.{name}", difference(got, want)
