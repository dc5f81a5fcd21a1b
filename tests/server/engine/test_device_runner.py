"""The runner for GPUs on a CPU: packs of columns against the ragged steps, and its logic. No GPU needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from sled_tts.model.melody.register import Register
from sled_tts.server.engine.columns import Counters, Pack
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.graphs import Sizes
from sled_tts.server.engine.request import Float32, Mode, Prompt, SynthesisRequest
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.state import draw_noise
from sled_tts.server.engine.work import LAST_LATENT, DecodeWork, RowWork, prompt_column
from tests.fakes import Listener, admit, cancel, dynamics, make_engine, melody, tiny_codec
from tests.model.factories import TINY, tiny, token_ids

WIDTH = TINY["vae_embed_dim"]


def test_sizes_hold_everybody_and_no_more_than_half_as_much_again() -> None:
    for slots in (1, 4, 16, 64, 256):
        sizes = Sizes(slots, 300, live_only=True).columns
        assert sizes[0] == 2
        assert sizes[-1] >= 2 * slots + slots // 4
        assert all(a < b <= 2 * a and b % 2 == 0 for a, b in itertools.pairwise(sizes))
        assert all(b <= 1.5 * a for a, b in itertools.pairwise(sizes) if a >= 16)
    assert Sizes(4, 600, live_only=False).depths == (256, 512, 600)
    assert Sizes(4, 100, live_only=False).depths == (100,)


def test_the_smallest_size_that_holds_columns_and_streams_is_taken() -> None:
    sizes = Sizes(4, 600, live_only=False)
    row = (0, 1, 0, 0, 0, 0)
    stream = (0, 0, 0, 0, 0)
    assert sizes.fit(Pack([row] * 3, [stream], 256)) == (4, 256)
    assert sizes.fit(Pack([row] * 3, [stream] * 3, 257)) == (8, 512)
    assert sizes.fit(Pack([row] * 61, [stream], 600)) == (62, 600)


def test_a_pack_says_where_every_column_goes() -> None:
    rows = [RowWork(1, (7, 8, LAST_LATENT), (LAST_LATENT,)), RowWork(0, (prompt_column(2),), ())]
    pack = Pack.of(rows, Counters([5, 0, 10, 4], [3, 9], [1, 2]))
    assert pack.columns == [
        (7, 1, 0, 0, 2, 10), (8, 1, 0, 0, 2, 11), (0, 0, 1, 8, 2, 12), (0, 0, 1, 8, 3, 4), (0, 0, 0, 2, 0, 5),
    ]  # fmt: skip
    assert pack.streams == [(2, 3, 1, 9, 2), (4, 4, 0, 3, 1)]
    assert pack.longest == 13
    flat = np.full(200, -1)
    end = pack.write(flat, 8, 4, padding_row=6, padding_slot=2)
    assert end == 6 * 8 + 5 * 4
    assert (flat[end:] == -1).all()
    columns, streams = flat[:48].reshape(6, 8).T, flat[48:end].reshape(5, 4).T
    assert columns[:5].tolist() == [list(column) for column in pack.columns]
    assert columns[5:].tolist() == [[0, 1, 2, 0, 6, 0]] * 3
    assert streams[:2].tolist() == [list(stream) for stream in pack.streams]
    assert streams[2:].tolist() == [[0, 0, 2, 0, 0]] * 2
    assert [len(part.columns) for part in pack.parts(2)] == [2, 2, 1]


@pytest.mark.parametrize("channels", [6, 16, 48, 128])
def test_noise_drawn_in_blocks_is_noise_drawn_frame_by_frame(channels: int) -> None:
    one, other = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    blocks = torch.cat([draw_noise(one, channels) for _ in range(3)])
    assert torch.equal(blocks, torch.stack([torch.randn(channels, generator=other) for _ in range(len(blocks))]))


def device_runner(lag: int = 0) -> DeviceRunner:
    sled, _ = tiny(seed=3, stream_n=3, stream_m=4)
    with torch.no_grad():
        sled.eos_head.weight.fill_(float("nan"))  # a comparison with NaN is never true: nobody stops
    sled.prepare_for_inference()
    return DeviceRunner(sled, tiny_codec(), torch.zeros(WIDTH), torch.ones(WIDTH), slots=6, lag=lag, melody=melody())


def ragged_runner() -> SledRunner:
    sled, _ = tiny(seed=3, stream_n=3, stream_m=4)
    with torch.no_grad():
        sled.eos_head.weight.fill_(float("nan"))
    sled.prepare_for_inference()
    return SledRunner(sled, tiny_codec(), torch.zeros(WIDTH), torch.ones(WIDTH), slots=6, melody=melody())


def prompt_of(seed: int) -> Prompt | None:
    """None, a recording whose transcript opens the text, or a block of its own, some of them a second time."""
    if seed % 3 == 0:
        return None
    draw = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(seed % 2)).numpy()
    return Prompt(draw, tuple(token_ids(5, seed % 2)[:-1]) if seed % 3 == 1 else ())


def speak_all(runner: SledRunner | DeviceRunner) -> list[Float32]:
    """Streams that come and go: guided and unguided ones, prompts, text read in between, more of it than fits."""
    engine = make_engine(runner, lambda c=itertools.count(): next(c) * 0.002)  # type: ignore[misc]
    heard: list[Listener] = []
    for seed in range(12):
        request = SynthesisRequest(
            f"r{seed}", Mode.STREAMING, seed, (1.0, 2.0)[seed % 2], 20 + seed, prompt_of(seed),
            tuple(token_ids(4 + seed, seed)), register=Register(105.0 + seed, 0.25) if seed % 5 in (1, 2) else None,
            dynamics=dynamics(seed) if seed % 4 in (1, 2) else None,
        )  # fmt: skip
        slot, listener = admit(engine, request)
        heard.append(listener)
        for _ in range(5):
            engine.step()
        if seed in (2, 5):
            cancel(engine, slot, listener)
            engine.step()
    while engine.step():
        pass
    return [h.pcm for h in heard]


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh memory holds NaN, as it may: a mask hides a position from the softmax, yet 0 times NaN is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
def test_packed_steps_give_what_ragged_steps_give() -> None:
    for got, want in zip(speak_all(device_runner()), speak_all(ragged_runner()), strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=1e-4)
        assert want.size > 0 or got.size == 0


def test_more_columns_than_the_buffer_holds_are_two_packs() -> None:
    """Six texts of nearly every position at once, which an offline checkpoint may be asked for."""
    sled, _ = tiny(seed=3)
    sled.prepare_for_inference()
    spoken = []
    for made in (DeviceRunner, SledRunner):
        runner = made(sled, tiny_codec(), torch.zeros(WIDTH), torch.ones(WIDTH), slots=6)
        texts = [tuple(token_ids(100, slot)) for slot in range(6)]
        for slot, ids in enumerate(texts):
            runner.open(slot, SynthesisRequest(f"r{slot}", Mode.OFFLINE, slot, 2.0, token_ids=ids))
        rows = [RowWork(slot, ids, (2,)) for slot, ids in enumerate(texts)]
        if isinstance(runner, DeviceRunner):
            assert len(list(runner._parts(rows))) == 3
        assert len(runner.step(rows)) == 6
        spoken.append(np.stack([runner.latents(slot, 0, 1) for slot in range(6)]))
    np.testing.assert_allclose(spoken[0], spoken[1], atol=1e-4)


def test_where_graphs_cannot_be_captured_everything_goes_on_without(caplog: pytest.LogCaptureFixture) -> None:
    """As here: there is no GPU to capture on."""
    sled, _ = tiny(seed=3)
    sled.prepare_for_inference()
    zeros, ones = torch.zeros(WIDTH), torch.ones(WIDTH)
    made = DeviceRunner(sled, tiny_codec(), zeros, ones, slots=2, positions=64, graphed=True, lag=0)
    assert made.prepare() == 0
    assert "steps: CUDA graphs could not be captured" in caplog.text
    assert "codec: CUDA graphs could not be captured" in caplog.text
    ids = tuple(token_ids(5, 1))
    for runner in (made, plain := DeviceRunner(sled, tiny_codec(), zeros, ones, slots=2, positions=64, lag=0)):
        runner.open(0, SynthesisRequest("r", Mode.OFFLINE, 1, 2.0, token_ids=ids))
        runner.step([RowWork(0, ids, (2,))])
        for _ in range(8):
            runner.step([RowWork(0, (LAST_LATENT,), (LAST_LATENT,))])
    work = [DecodeWork(0, 0, 7, False)]
    np.testing.assert_array_equal(made.decode(work)[0], plain.decode(work)[0])
    made.open(1, SynthesisRequest("s", Mode.OFFLINE, 1, 2.0, token_ids=ids))
    with pytest.raises(ValueError, match="needs 7 latents"):
        made.decode([DecodeWork(1, 0, 3, False)])
