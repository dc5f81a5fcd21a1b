"""What the GPU benchmark measures with: networks, runners, clocks of the device."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from sled_tts.bench.shapes import published, random_codec, random_sled
from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.config import GeneratorConfig, SledConfig
from sled_tts.model.kernels.choose import PLAIN, Kernels
from sled_tts.model.sled import Sled
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.request import Mode, SynthesisRequest
from sled_tts.server.engine.work import LAST_LATENT, RowWork

SPEECH = (LAST_LATENT,)


def tiny_config() -> SledConfig:
    """For trying the whole path without a GPU."""
    return SledConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3, vocab_size=120,
        latent_dim=16, generator=GeneratorConfig(depth=2, width=32, noise_channels=16), max_position_embeddings=256,
        stream_n=5, stream_m=45,
    )  # fmt: skip


@dataclass
class Bench:
    """One network of random weights that never stops, its codec, and where it runs. `deadline` is a `perf_counter`."""

    device: torch.device
    kernels: Kernels
    tiny: bool
    seed: int
    deadline: float
    codec: Codec = field(init=False)
    _exact: Sled = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self._exact = random_sled(tiny_config() if self.tiny else published(), self.seed)
        with torch.no_grad():
            self._exact.eos_head.weight.fill_(float("nan"))  # a comparison with NaN is never true: nobody stops
        tiny_codec = CodecConfig(
            sampling_rate=4000, dimension=16, n_filters=4, ratios=(5, 4, 2, 2), codebook_size=16, n_q=2
        )
        self.codec = random_codec(tiny_codec if self.tiny else None).to(self.device)

    @property
    def config(self) -> SledConfig:
        return self._exact.config

    @property
    def dtype(self) -> torch.dtype:
        """What is served: bf16 on a GPU."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def sled(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Sled:
        return copy.deepcopy(self._exact).to(device or self.device, dtype).prepare_for_inference()

    def runner(
        self,
        sled: Sled,
        slots: int,
        positions: int,
        *,
        kernels: Kernels | None = None,
        graphed: bool | None = None,
        lag: int = 1,
    ) -> DeviceRunner:
        width = self.config.latent_dim
        runner = DeviceRunner(
            sled, self.codec, torch.zeros(width), torch.ones(width), slots=slots, positions=positions,
            kernels=kernels or self.kernels, graphed=graphed, lag=lag,
        )  # fmt: skip
        runner.prepare()
        return runner

    def out_of_time(self) -> bool:
        return time.perf_counter() > self.deadline

    def milliseconds(self, work: Callable[[], object], rounds: int = 20) -> float:
        """Device time of one call, the median of `rounds` after three of warm-up; wall time on a CPU."""
        for _ in range(3 if self.on_gpu else 1):
            work()
        if not self.on_gpu:
            times = []
            for _ in range(3):
                began = time.perf_counter()
                work()
                times.append(1000 * (time.perf_counter() - began))
            return sorted(times)[1]
        torch.cuda.synchronize(self.device)
        marks: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]  # type: ignore[no-untyped-call]
        marks[0].record()
        for mark in marks[1:]:
            work()
            mark.record()
        torch.cuda.synchronize(self.device)
        took: list[float] = sorted(a.elapsed_time(b) for a, b in pairwise(marks))
        return took[len(took) // 2]


def begin(runner: DeviceRunner, streams: int, seed: int) -> None:
    """Guided streams on slots 0, 1, ... that have read a text and written a frame."""
    vocabulary = runner.info.vocab_size
    rows = []
    for slot in range(streams):
        ids = (0, *(4 + (7 * slot + k) % (vocabulary - 4) for k in range(3)), 2)
        runner.open(slot, SynthesisRequest(f"b{slot}", Mode.OFFLINE, seed + slot, 2.0, token_ids=ids))
        rows.append(RowWork(slot, ids, (runner.info.eos_id,)))
    runner.step(rows)


def speech_rows(streams: int) -> Sequence[RowWork]:
    return [RowWork(slot, SPEECH, SPEECH) for slot in range(streams)]


def set_context(runner: DeviceRunner, streams: int, context: int) -> None:
    runner.state.cache.lengths[: 2 * streams] = [context] * (2 * streams)
    runner.state.filled[:streams] = [1] * streams


def fill_cache(runner: DeviceRunner, seed: int) -> None:
    """Finite noise everywhere: speed does not depend on the values, but on there being no NaN among them."""
    with torch.inference_mode(), runner.lanes.steps():
        rng = torch.Generator(runner.device).manual_seed(seed)
        for layer in (*runner.state.cache.keys, *runner.state.cache.values):
            layer.normal_(generator=rng)


__all__ = ["PLAIN", "SPEECH", "Bench", "begin", "fill_cache", "set_context", "speech_rows", "tiny_config"]
