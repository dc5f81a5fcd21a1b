"""Replay recorded cases of the reference implementation: `python -m sled_tts.model.parity DIR`.

Prints the largest absolute error per case and tensor; exits 1 when any is above 1e-3.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sled_tts.model.codec.codec import Codec, codec_config_from
from sled_tts.model.codec.weights import read_safetensors
from sled_tts.model.errors import ModelError
from sled_tts.model.generation import GenerationRequest, generate
from sled_tts.model.recorded import Errors, difference, recorded_model
from sled_tts.model.tokenizer import Tokenizer
from sled_tts.model.training.parity import replay_training

TOLERANCE = 1e-3


def _stop_ids(logits: Tensor, threshold: float, config: dict[str, Any]) -> Tensor:
    """The reference's id per step: `<s>` = go on, `</s>` in the step that predicts the stop, pad after it."""
    bos, eos = int(config.get("bos_token_id", 0)), int(config.get("eos_token_id", 2))
    # Without a pad token the reference's generation pads with </s>.
    pad = eos if config.get("pad_token_id") is None else int(config["pad_token_id"])
    stopped = torch.sigmoid(logits) >= threshold
    before = torch.cat([torch.zeros(1, dtype=torch.long), stopped.long().cumsum(0)[:-1]])
    ids = torch.where(stopped, eos, bos)
    return torch.where(before > 0, pad, ids)


def replay_synthesis(case: dict[str, Any], data: dict[str, Tensor]) -> Errors:
    """Offline (prompted or not) and streaming generation, single or batched."""
    model = recorded_model(case, data).prepare_for_inference()
    config, streaming = model.config, case["kind"] == "stream"
    ids, mask = data["in.input_ids"], data.get("in.attention_mask")
    prompts, steps = data.get("in.prompt_latents"), int(case.get("steps", data["noise"].shape[1]))
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
            rows.append(GenerationRequest(ids[b][keep].tolist(), data["noise"][b].__getitem__, limit, prompt))
        return rows

    n, m = (config.stream_n, config.stream_m) if streaming else (None, None)
    common = {
        "cfg_scale": float(case["infer_cfg"]),
        "n": n,
        "m": m,
        "stop_threshold": threshold,
        "trace": True,
    }
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
            yield name, difference(got, data[name])
    logits = torch.stack([r.stop_logits for r in free if r.stop_logits is not None])
    stops = torch.stack([_stop_ids(row, threshold, case["config"]) for row in logits])
    if "out.ids" in data:
        yield "out.ids", difference(stops, data["out.ids"][:, -steps:])
    # And once more as the product runs it, stops obeyed at the reference's moment.
    obeyed = generate(model, requests(steps), strict_reference_stop=True, **common)  # type: ignore[arg-type]
    lengths = [int((torch.sigmoid(row) < threshold).cumprod(0).sum()) for row in logits]
    for b, result in enumerate(obeyed):
        yield f"speech[{b}]", difference(result.latents, data["out.new_latents"][b, : lengths[b]])
    if "wav_len_frames_eval_rule" in case:
        got_frames = torch.tensor([result.latents.shape[0] for result in obeyed])
        yield "frames", difference(got_frames, torch.tensor(case["wav_len_frames_eval_rule"]))


def replay_codec(case: dict[str, Any], data: dict[str, Tensor]) -> Errors:
    """Encoder, codes (exactly), decoder, short inputs, and streaming decode against offline decode."""
    config = codec_config_from(case["config"], bandwidth_kbps=float(case["config"].get("bandwidth", 6.0)))
    codec = Codec.from_state(config, {key[3:]: value for key, value in data.items() if key.startswith("sd.")})
    latents, wave = data["in.latents_bdt"].transpose(1, 2), data["in.wave"]
    yield "out.wave", difference(codec.decode(latents), data["out.wave"][:, 0])
    with torch.inference_mode():
        yield "out.encoder", difference(codec.encoder(wave), data["out.encoder"])
    yield "out.codes", difference(codec.encode_codes(wave), data["out.codes"])
    yield "out.latents_q_bdt", difference(codec.encode(wave).transpose(1, 2), data["out.latents_q_bdt"])
    for name, want in data.items():
        if name.startswith("out.wave_T"):
            yield name, difference(codec.decode(latents[:, : int(name[10:])]), want[:, 0])
        elif name.startswith("out.codes_N"):
            yield name, difference(codec.encode_codes(wave[:1, :, : int(name[11:])]), want)
    first = min(config.first_chunk_frames, latents.shape[1])
    decoder = codec.streaming_decoder(1)
    chunks = [latents[0, :first], *torch.split(latents[0, first:], 1)]
    parts = [decoder.decode([c], [0], [i == len(chunks) - 1])[0] for i, c in enumerate(chunks)]
    yield "streaming", difference(torch.cat(parts), data["out.wave"][0, 0])


def replay_tokenizer(case: dict[str, Any], folder: Path) -> Errors:
    """Ids of whole texts, exactly."""
    tokenizer = Tokenizer.load(folder)
    for index, item in enumerate(case["cases"]):
        got = tokenizer.encode(item["text"], parse_special=True)
        yield f"ids[{index}]", 0.0 if list(got) == list(item["ids"]) else float("inf")


def _tokenizer_folder(case: dict[str, Any], path: Path) -> Path:
    """Where the vocabulary of a tokenizer case lies: named by the case, beside it, or in the shared folder."""
    shared = os.environ.get("SLED_TTS_SHARED", "../shared")
    candidates = [path.parent / "tokenizer", path.parent.parent / "tokenizer", Path(shared) / "tokenizer"]
    if "tokenizer" in case:
        candidates.insert(0, path.parent / case["tokenizer"])
    found = next((folder for folder in candidates if (folder / "vocab.json").is_file()), None)
    if found is None:
        raise ModelError(f"{path.name}: no vocab.json in any of {', '.join(map(str, candidates))}")
    return found


def replay(path: Path) -> Errors:
    """Replay one `NAME.json`; raises ModelError for a kind that is not known."""
    case = json.loads(path.read_text(encoding="utf-8"))
    if "cases" in case:
        yield from replay_tokenizer(case, _tokenizer_folder(case, path))
        return
    data = read_safetensors(path.with_suffix(".safetensors"))
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
        try:
            errors = list(replay(path))
        except (ModelError, OSError, KeyError) as reason:
            # A case that cannot be replayed has failed; the others still say what they have to say.
            print(f"{path.stem}: {type(reason).__name__}: {reason}", file=sys.stderr)
            errors = []
        largest = max((error for _, error in errors), default=float("inf"))
        worst = max(worst, largest)
        print(f"{path.stem:34s} {'ok  ' if largest <= TOLERANCE else 'FAIL'} {largest:.2e}")
        for name, error in errors:
            print(f"    {name:60s} {error:.2e}")
    print(f"{len(paths)} cases, largest absolute error {worst:.2e}, tolerance {TOLERANCE:g}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
