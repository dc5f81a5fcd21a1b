"""Replay recorded cases of the reference implementation: `python -m sled_tts.model.parity DIR`.

Prints the largest absolute error per case and tensor; exits 1 when any is above 1e-3.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sled_tts.model.codec.codec import Codec, codec_config_from
from sled_tts.model.config import SledConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.generation import GenerationRequest, generate
from sled_tts.model.sled import Sled
from sled_tts.model.tokenizer import Tokenizer
from sled_tts.model.training.losses import sled_loss

TOLERANCE = 1e-3
Errors = Iterator[tuple[str, float]]


def _difference(got: Tensor, want: Tensor) -> float:
    """Largest absolute difference; infinite when the shapes or an exact integer tensor differ."""
    if got.shape != want.shape:
        return float("inf")
    if not want.is_floating_point():
        return 0.0 if torch.equal(got.to(want.dtype), want) else float("inf")
    return float((got.double() - want.double()).abs().max()) if want.numel() else 0.0


def _model(case: dict[str, Any], data: dict[str, Tensor]) -> Sled:
    model = Sled(SledConfig.from_dict(case["config"]))
    state = {key[3:]: value for key, value in data.items() if key.startswith("sd.")}
    model.load_state_dict({k: v for k, v in state.items() if k != "bceloss.pos_weight" and not k.startswith("codec.")})
    return model.eval()


def _stop_ids(logits: Tensor, threshold: float, pad: int, eos: int) -> Tensor:
    """The reference's id per step: 0 = go on, `</s>` in the step that predicts the stop, pad after it."""
    stopped = torch.sigmoid(logits) >= threshold
    before = torch.cat([torch.zeros(1, dtype=torch.long), stopped.long().cumsum(0)[:-1]])
    ids = torch.where(stopped, eos, 0)
    return torch.where(before > 0, pad, ids)


def replay_synthesis(case: dict[str, Any], data: dict[str, Tensor]) -> Errors:
    """Offline (prompted or not) and streaming generation, single or batched."""
    model = _model(case, data).prepare_for_inference()
    config, streaming = model.config, case["kind"] == "stream"
    ids, mask = data["in.input_ids"], data.get("in.attention_mask")
    prompts, steps = data.get("in.prompt_latents"), int(case["steps"])
    threshold = float(case.get("stop_threshold", 0.5 if streaming else 0.8))
    batch = ids.shape[0]

    def requests(limit: int) -> list[GenerationRequest]:
        rows = []
        for b in range(batch):
            keep = mask[b, : ids.shape[1]].bool() if mask is not None else torch.ones_like(ids[b]).bool()
            prompt = None
            if prompts is not None:
                prompt = prompts[b]
                if mask is not None and mask.shape[1] > ids.shape[1]:
                    prompt = prompt[mask[b, ids.shape[1] :].bool()]
            draws = data["noise"][b]
            rows.append(GenerationRequest(ids[b][keep].tolist(), lambda step, d=draws: d[step], limit, prompt))  # type: ignore[misc]
        return rows

    n, m = (config.stream_n, config.stream_m) if streaming else (None, None)
    common = {"cfg_scale": float(case["infer_cfg"]), "n": n, "m": m, "stop_threshold": threshold, "trace": True}
    # The reference keeps writing finished rows until the whole batch has stopped.
    free = generate(model, requests(steps), ignore_stop=True, **common)  # type: ignore[arg-type]
    new = torch.stack([result.latents for result in free])
    for name, got in {
        "out.new_latents": new,
        "out.latents": new if prompts is None else torch.cat([prompts, new], dim=1),
        "out.z": torch.stack([r.z for r in free if r.z is not None]),
        "out.h_cond": torch.stack([r.hidden for r in free if r.hidden is not None]),
        "out.eos_logits": torch.stack([r.stop_logits for r in free if r.stop_logits is not None]),
    }.items():
        if name in data:
            yield name, _difference(got, data[name])
    logits = torch.stack([r.stop_logits for r in free if r.stop_logits is not None])
    stops = torch.stack([_stop_ids(row, threshold, config.pad_token_id, config.eos_token_id) for row in logits])
    if "out.ids" in data:
        yield "out.ids", _difference(stops, data["out.ids"][:, -steps:])
    # And once more as the product runs it, stops obeyed at the reference's moment.
    obeyed = generate(model, requests(steps), strict_reference_stop=True, **common)  # type: ignore[arg-type]
    lengths = [int((row != config.eos_token_id).cumprod(0).sum()) for row in stops]
    for b, result in enumerate(obeyed):
        yield f"speech[{b}]", _difference(result.latents, data["out.new_latents"][b, : lengths[b]])
    if "wav_len_frames_eval_rule" in case:
        got_frames = torch.tensor([result.latents.shape[0] for result in obeyed])
        yield "frames", _difference(got_frames, torch.tensor(case["wav_len_frames_eval_rule"]))


def replay_training(case: dict[str, Any], data: dict[str, Tensor]) -> Errors:
    """Loss, its parts, hidden states and every gradient."""
    model = _model(case, data)
    text_mask, speech_mask = data["in.attention_mask"], data["in.speech_mask"]
    # The reference drops text (classifier-free guidance) in place, inside its forward pass.
    ids = data.get("out.input_ids_after", data["in.input_ids"])
    kept = data.get("out.attention_mask_after", text_mask)
    full = data.get("out.full_attention_mask")
    if case["kind"] == "train_offline" and full is not None:
        kept = full[:, : text_mask.shape[1]]
    parts = sled_loss(
        model,
        ids,
        kept,
        data["in.latents"],
        speech_mask,
        (data["noise_1"], data["noise_2"]),
    )
    parts.loss.backward()  # type: ignore[no-untyped-call]
    real = speech_mask.bool()
    counted = torch.arange(real.shape[1] + 1)[None] <= real.sum(1, keepdim=True)
    for name, got in {"out.loss": parts.loss, "out.energy_loss": parts.energy, "out.eos_loss": parts.stop}.items():
        yield name, _difference(got.detach().reshape(1), data[name].reshape(1))
    for name, got, select in (
        ("out.energy_per_frame", parts.energy_per_frame, real),
        ("out.z", parts.z[:, :-1], real),
        ("out.eos_logits", parts.stop_logits, counted),
    ):
        if name in data:
            yield name, _difference(got.detach()[select], data[name][select])
    for name, parameter in model.named_parameters():
        want = data.get(f"grad.{name}")
        if want is not None:
            got = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            yield f"grad.{name}", _difference(got, want)


def replay_codec(case: dict[str, Any], data: dict[str, Tensor]) -> Errors:
    """Encoder, codes (exactly), decoder, short inputs, and streaming decode against offline decode."""
    config = codec_config_from(case["config"], bandwidth_kbps=float(case["config"].get("bandwidth", 6.0)))
    codec = Codec.from_state(config, {key[3:]: value for key, value in data.items() if key.startswith("sd.")})
    latents, wave = data["in.latents_bdt"].transpose(1, 2), data["in.wave"]
    yield "out.wave", _difference(codec.decode(latents), data["out.wave"][:, 0])
    with torch.inference_mode():
        yield "out.encoder", _difference(codec.encoder(wave), data["out.encoder"])
    yield "out.codes", _difference(codec.encode_codes(wave), data["out.codes"])
    yield "out.latents_q_bdt", _difference(codec.encode(wave).transpose(1, 2), data["out.latents_q_bdt"])
    for name, want in data.items():
        if name.startswith("out.wave_T"):
            yield name, _difference(codec.decode(latents[:, : int(name[10:])]), want[:, 0])
        elif name.startswith("out.codes_N"):
            yield name, _difference(codec.encode_codes(wave[:1, :, : int(name[11:])]), want)
    first = min(config.first_chunk_frames, latents.shape[1])
    decoder = codec.streaming_decoder(1)
    chunks = [latents[0, :first], *latents[0, first:].split(1)]
    parts = [decoder.decode([c], [0], [i == len(chunks) - 1])[0] for i, c in enumerate(chunks)]
    yield "streaming", _difference(torch.cat(parts), data["out.wave"][0, 0])


def replay_tokenizer(case: dict[str, Any], folder: Path) -> Errors:
    """Ids of whole texts, exactly."""
    tokenizer = Tokenizer.load(folder)
    for index, item in enumerate(case["cases"]):
        got = tokenizer.encode(item["text"], parse_special=True)
        yield f"ids[{index}]", 0.0 if list(got) == list(item["ids"]) else float("inf")


def replay(path: Path) -> Errors:
    """Replay one `NAME.json`; raises ModelError for a kind that is not known."""
    case = json.loads(path.read_text(encoding="utf-8"))
    if "cases" in case:
        yield from replay_tokenizer(case, Path(case.get("tokenizer", path.parent.parent / "tokenizer")))
        return
    data = load_file(path.with_suffix(".safetensors"))
    kind = case.get("kind", "codec" if "in.latents_bdt" in data else "")
    if kind in ("offline", "stream"):
        yield from replay_synthesis(case, data)
    elif kind.startswith("train"):
        yield from replay_training(case, data)
    elif kind == "codec" or "package" in case:
        yield from replay_codec(case, data)
    else:
        raise ModelError(f"{path.name}: unknown kind of case {kind!r}")


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m sled_tts.model.parity DIR", file=sys.stderr)
        return 2
    paths = sorted(p for p in Path(arguments[0]).glob("*.json"))
    if not paths:
        print(f"no recorded cases (*.json) in {arguments[0]}", file=sys.stderr)
        return 2
    worst = 0.0
    for path in paths:
        errors = list(replay(path))
        largest = max((error for _, error in errors), default=float("inf"))
        worst = max(worst, largest)
        print(f"{path.stem:34s} {'ok  ' if largest <= TOLERANCE else 'FAIL'} {largest:.2e}")
        for name, error in errors:
            print(f"    {name:60s} {error:.2e}")
    print(f"{len(paths)} cases, largest absolute error {worst:.2e}, tolerance {TOLERANCE:g}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
