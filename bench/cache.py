"""What bf16 and 8-bit keys and values do to a checkpoint's latents, frame by frame, when both remember the same.

    python -m sled_tts.bench.cache --model built-in

Random texts, guided, on the runner for GPUs; on a CPU with plain torch. The gate of `SLED_TTS_KV_PRECISION=fp8` is the
row of 8 bits. JSON last.
"""

from __future__ import annotations

import argparse
import sys

import torch

from sled_tts.bench.common import finish, introduce, machine, show
from sled_tts.bench.shapes import published, random_codec, random_sled
from sled_tts.model.checkpoint import load_bundle
from sled_tts.model.kernels.choose import choose_kernels
from sled_tts.model.sled import Sled
from sled_tts.server.engine.comparing import LatentError, latent_error
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.placing import MOST_CACHE_ERROR, cache_error

_STREAMS, _FRAMES, _TOKENS = 4, 120, 24


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="built-in", help="published (random weights), built-in, a folder.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if options.model == "published":
        exact, codec = random_sled(published(), options.seed).to(device).prepare_for_inference(), random_codec()
        mean, std, scale = torch.zeros(exact.config.latent_dim), torch.ones(exact.config.latent_dim), 1.0
    else:
        bundle = load_bundle(options.model, device=options.device)
        exact, codec, extras = bundle.sled, bundle.codec, bundle.extras
        mean, std, scale = extras.latent_mean, extras.latent_std, extras.noise_scale
    halved = Sled(exact.config)
    halved.load_state_dict(exact.state_dict())
    halved = halved.to(device, torch.bfloat16).prepare_for_inference()
    codec = codec.to(device)

    def runner(sled: Sled, slots: int, positions: int) -> DeviceRunner:
        dtype = sled.z_proj.weight.dtype
        kernels = choose_kernels(device, dtype)
        return DeviceRunner(
            sled, codec, mean, std, slots=slots, positions=positions, noise_scale=scale, kernels=kernels,
            graphed=False, lag=0,
        )  # fmt: skip

    about = machine(device) | {"model": options.model, "seed": options.seed, "frames": _STREAMS * _FRAMES}
    introduce(about)
    positions = min(_FRAMES + _TOKENS + 1, exact.config.max_position_embeddings)
    exact.cache_dtype = None
    pair = [runner(sled, _STREAMS, positions) for sled in (exact, halved)]
    found: dict[str, LatentError] = {
        "bf16 throughout, against fp32": latent_error(
            *pair, streams=_STREAMS, frames=positions - _TOKENS, tokens=_TOKENS, seed=options.seed
        ),
        "8-bit keys and values, against fp32": cache_error(lambda s, p: runner(exact, s, p), exact, options.seed),
    }
    show(
        f"root mean square of the difference over that of the latents; the gate is at {MOST_CACHE_ERROR}",
        ("", "all frames", "worst frame"),
        [(name, f"{error.overall:.4f}", f"{error.worst_frame:.4f}") for name, error in found.items()],
    )
    finish(about, {name: {"overall": e.overall, "worst_frame": e.worst_frame} for name, e in found.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
