"""Runs the public implementation from a checkout, told by JSON lines on standard input. Imports nothing of ours, so
that it can run in an environment of its own (it needs torch and transformers 4.47).

First line: {"checkout", "weights" (a torch file), "config", "threads"}. Each further line is one run: {"streaming",
"ids" [B, T], "seeds" [B], "frames", "cfg_scale"}; the answer holds, a frame, wall and processor seconds, and the file
with the latents. Noise comes from one generator a row, so that others can draw the same.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


class Reference:
    """One of the two models of the checkout, over weights it shares with the other."""

    def __init__(self, module: Any, config: dict[str, Any], state: dict[str, Tensor]) -> None:
        made = module.SpeechLlamaConfig(**config)
        made._attn_implementation = "sdpa"
        with torch.device("meta"):
            self.model = module.SpeechLlamaForCausalLM(made)
        self.model.to_empty(device="cpu")
        for name, parameter in self.model.named_parameters():
            parameter.data = state[name]
        rotary = self.model.model.rotary_emb
        inverse, _ = rotary.rope_init_fn(made, "cpu")
        rotary.inv_freq = rotary.original_inv_freq = inverse
        self.model.eval().requires_grad_(False)
        # Random weights would stop at random.
        self.model.eos_head.register_forward_hook(lambda module, inputs, output: output - 1e4)
        self.at: list[tuple[float, float]] = []
        self.latents: list[Tensor] = []
        self.noise: list[torch.Generator] = []
        self.model.scoreloss.sample = self._sample

    def _sample(self, z: Tensor, temperature: float = 1.0, cfg: float = 1.0) -> Tensor:
        if cfg != 1.0:
            told, free = z.chunk(2)
            z = cfg * told + (1 - cfg) * free
        channels = self.model.scoreloss.noise_channels
        noise = torch.stack([torch.randn(channels, generator=source) for source in self.noise])
        made: Tensor = self.model.scoreloss.net(noise, z)
        self.at.append((time.perf_counter(), time.process_time()))
        self.latents.append(made)
        return made

    @torch.inference_mode()
    def run(self, job: dict[str, Any]) -> list[list[float]]:
        """Wall and processor seconds of every frame after the first."""
        self.at, self.latents = [], []
        self.noise = [torch.Generator().manual_seed(seed) for seed in job["seeds"]]
        self.model.infer_cfg = job["cfg_scale"]
        ids = torch.tensor(job["ids"])
        self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_length=ids.shape[1] + job["frames"],
            do_sample=True,
        )
        torch.save(torch.stack(self.latents[: job["frames"]], dim=1), job["latents"])
        ends = self.at[: job["frames"]]
        return [[b[0] - a[0], b[1] - a[1]] for a, b in pairwise(ends)]


def main() -> None:
    start = json.loads(sys.stdin.readline())
    sys.path.insert(0, start["checkout"])
    torch.set_num_threads(start["threads"])
    answers = sys.stdout
    sys.stdout = sys.stderr
    import sled.sled
    import sled.sled_stream
    import transformers

    state = torch.load(start["weights"], mmap=True, weights_only=True)
    offline = Reference(sled.sled, start["offline"], state)
    streaming = Reference(sled.sled_stream, start["streaming"], state)
    print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        times = (streaming if job["streaming"] else offline).run(job)
        print(json.dumps(times), file=answers, flush=True)


if __name__ == "__main__":
    main()
