"""A clock that stands still, a runner without a network, and a tiny real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.melody.contour import ContourNet, ContourWeights
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.melody import Melody
from sled_tts.model.sled import Sled
from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.commands import Admit, Cancel, Tokens
from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.outlet import Outlet
from sled_tts.server.engine.request import AudioChunk, Event, Failed, Finished, Float32, SynthesisRequest
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.scheduler import Policy
from sled_tts.server.engine.work import DecodeWork, RowOutcome, RowWork, RunnerInfo
from tests.model.factories import TINY, tiny


@dataclass
class FakeClock:
    """Seconds that pass only when told to."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeRunner:
    """Counts instead of computing: frame k of a slot decodes to `hop` samples of value k.

    `stops[slot]` is the 0-based frame whose step fires the stop head; `step_s` moves the clock a step.
    """

    info: RunnerInfo
    clock: FakeClock
    step_s: float = 0.0
    stops: dict[int, int] = field(default_factory=dict)
    always_stop: bool = False
    invalid: set[int] = field(default_factory=set)
    break_next: Exception | None = None
    steps: list[list[RowWork]] = field(default_factory=list)
    filled: dict[int, int] = field(default_factory=dict)
    prompts: dict[int, int] = field(default_factory=dict)
    closed: list[int] = field(default_factory=list)

    def open(self, slot: int, request: SynthesisRequest) -> int:
        self.prompts[slot] = request.prompt.frames if request.prompt else 0
        self.filled[slot] = self.prompts[slot]
        return 0

    def step(self, rows: Sequence[RowWork]) -> list[RowOutcome]:
        self.clock.now += self.step_s
        if self.break_next is not None:
            error, self.break_next = self.break_next, None
            raise error
        self.steps.append(list(rows))
        outcomes = []
        for row in rows:
            spoken = self.filled[row.slot] - self.prompts[row.slot]
            stop = self.always_stop or spoken == self.stops.get(row.slot, 10**9)
            outcomes.append(RowOutcome.STOP if stop else RowOutcome.FRAME)
            if row.slot in self.invalid:
                outcomes[-1] = RowOutcome.INVALID
            self.filled[row.slot] += 1
        return outcomes

    def decode(self, work: Sequence[DecodeWork]) -> list[Float32]:
        return [np.repeat(np.arange(w.start, w.start + w.count, dtype=np.float32), self.info.hop) for w in work]

    def latents(self, slot: int, start: int, count: int) -> Float32:
        frames = np.arange(start, start + count, dtype=np.float32)
        return np.repeat(frames[:, None], self.info.latent_dim, axis=1)

    def close(self, slot: int) -> None:
        self.closed.append(slot)


def fake_info(**changes: Any) -> RunnerInfo:
    values: dict[str, Any] = {
        "slots": 4, "positions": 200, "sampling_rate": 750, "hop": 10, "first_chunk_frames": 7, "eos_id": 2,
        "vocab_size": 60, "latent_dim": 10, "n": 2, "m": 3,
    }  # fmt: skip
    return RunnerInfo(**(values | changes))


@dataclass
class Listener:
    """Everything one stream has sent; `eager` reads at once, otherwise only on `read`."""

    events: list[Event] = field(default_factory=list)
    eager: bool = True
    outlet: Outlet = field(init=False)
    max_unread: int = 64

    def __post_init__(self) -> None:
        self.outlet = Outlet(self._take, self.max_unread)

    def _take(self, event: Event) -> None:
        self.events.append(event)
        if self.eager:
            self.outlet.took(event)

    def read_all(self) -> bool:
        """Catch up; True when the engine has to be woken."""
        self.outlet.taken = self.outlet.emitted
        return self.outlet.blocked

    @property
    def pcm(self) -> Float32:
        chunks = [e.pcm for e in self.events if isinstance(e, AudioChunk)]
        return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)

    @property
    def end(self) -> Finished | Failed | None:
        ends = [e for e in self.events if isinstance(e, Finished | Failed)]
        assert len(ends) <= 1, "more than one terminal event"
        if ends:
            assert self.events[-1] is ends[0], "something came after the terminal event"
        return ends[0] if ends else None


def make_engine(runner: Any, clock: Callable[[], float], **changes: Any) -> Engine:
    info = runner.info
    options: dict[str, Any] = {
        "policy": Policy(max_rows=info.slots),
        "chunks": ChunkPolicy(info.first_chunk_frames),
        "budget": FrameBudget(info.frame_rate),
        "clock": clock,
    }
    return Engine(runner, **(options | changes))


def admit(engine: Engine, request: SynthesisRequest, **listener: Any) -> tuple[int, Listener]:
    heard = Listener(**listener)
    slot = engine.pool.acquire()
    engine.post(Admit(request, slot, heard.outlet))
    return slot, heard


def push(engine: Engine, slot: int, heard: Listener, ids: Sequence[int], final: bool = False) -> None:
    engine.post(Tokens(slot, heard.outlet, tuple(ids), final))


def cancel(engine: Engine, slot: int, heard: Listener) -> None:
    engine.post(Cancel(slot, heard.outlet))


def dynamics(seed: int) -> Dynamics:
    """Some that are heard."""
    rng = np.random.default_rng(seed)
    loud = np.sort(rng.uniform(-60.0, 0.0, (4, 33)), axis=0).astype(np.float32)
    return Dynamics(loud, rng.uniform(-12.0, 6.0, (4, 33)).astype(np.float32))


def melody() -> Melody:
    """Untrained, for `tiny_codec`: two periods of 100 Hz are a frame."""
    torch.manual_seed(5)
    net = ContourNet(TINY["vae_embed_dim"], width=6, noise_channels=2).eval()
    return Melody(ContourWeights.of(net), pitches_hz=(100.0,))


def run_dry(engine: Engine, limit: int = 5000) -> int:
    """Step until nothing can run; returns the number of steps."""
    for count in range(limit):
        if not engine.step():
            return count
    raise AssertionError(f"still running after {limit} steps")


def tiny_codec(seed: int = 0) -> Codec:
    """A random codec with every kind of layer, 80 samples a frame."""
    config = CodecConfig(
        sampling_rate=4000, dimension=TINY["vae_embed_dim"], n_filters=4, ratios=(5, 4, 2, 2), codebook_size=16, n_q=2
    )
    torch.manual_seed(seed)
    return Codec(config).eval().requires_grad_(False)


def tiny_runner(slots: int = 4, stop_bias: float = 0.0, **changes: Any) -> tuple[SledRunner, Sled, Codec]:
    """A real runner over random weights; `stop_bias` scales the stop head, which makes utterances end."""
    sled, _ = tiny(seed=3, **changes)
    with torch.no_grad():
        sled.eos_head.weight.mul_(1.0 + stop_bias)
    sled.prepare_for_inference()
    codec = tiny_codec()
    torch.manual_seed(1)
    mean, std = 0.1 * torch.randn(TINY["vae_embed_dim"]), 0.5 + torch.rand(TINY["vae_embed_dim"])
    return SledRunner(sled, codec, mean, std, slots=slots, melody=melody()), sled, codec


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for what another thread is about to make true."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the other thread has no event to set
            await asyncio.sleep(0.002)
