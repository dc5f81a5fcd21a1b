"""Run with TRITON_INTERPRET=1: whole steps of a network on the kernels, against the same steps in plain torch."""

from __future__ import annotations

import torch

from sled_tts.model.kernels.choose import PLAIN, KernelChoice, choose_kernels
from sled_tts.server.engine.comparing import latent_error
from sled_tts.server.engine.device_runner import DeviceRunner
from tests.fakes import tiny_codec
from tests.model.factories import TINY, tiny

for held in (None, torch.float8_e4m3fn):
    sled = tiny(seed=3)[0].prepare_for_inference(compiled=False)
    kernels = choose_kernels("cpu", torch.float32, KernelChoice.TRITON, kv8=False)
    assert kernels.name == "triton"
    if held is not None:
        sled.cache_dtype = held
    width = TINY["vae_embed_dim"]
    pair = [
        DeviceRunner(
            sled, tiny_codec(), torch.zeros(width), torch.ones(width), slots=2, positions=96, kernels=used, lag=0
        )
        for used in (PLAIN, kernels)
    ]
    error = latent_error(*pair, streams=2, frames=4, tokens=5)
    # In 8 bits, quotients between two numbers may round either way, and the interpreter rounds some wrongly.
    assert error.worst_frame < (1e-5 if held is None else 0.2), error
    print("network" if held is None else "network in 8 bits", error)
