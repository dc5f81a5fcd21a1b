"""What runs on a GPU runs there alone: tried on tensors of the device `meta`, which have shapes and no numbers.

They do not mix with the host's, and whatever the host would have to wait for (reading a number, a shape that depends on
numbers) is an error: what passes here does not bring the host to a halt inside a step.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.config import SledConfig
from sled_tts.model.kernels.choose import PLAIN
from sled_tts.model.sled import Sled
from sled_tts.server.engine.columns import COLUMN_FIELDS, STREAM_FIELDS
from sled_tts.server.engine.device_codec import DeviceCodec
from sled_tts.server.engine.packed import PackedNetwork, StepInputs
from sled_tts.server.engine.placing import EIGHT_BITS
from sled_tts.server.engine.state import EngineState
from tests.model.factories import TINY

WIDTH = TINY["vae_embed_dim"]


@pytest.fixture
def imagined() -> Iterator[torch.device]:
    device = torch.device("meta")
    with torch.inference_mode():
        yield device


def test_numbers_cannot_be_read_off_an_imagined_device(imagined: torch.device) -> None:
    for waits in (
        lambda t: t.sum().item(),
        lambda t: t[t > 0],
        lambda t: t.tolist(),
        lambda t: t + torch.zeros(2),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)):
            waits(torch.zeros(2, device=imagined))


@pytest.mark.parametrize("held", [None, EIGHT_BITS])
def test_a_step_reads_no_number_and_stays_on_its_device(imagined: torch.device, held: torch.dtype | None) -> None:
    sled = Sled(SledConfig.from_dict(TINY)).to(imagined, torch.bfloat16).prepare_for_inference()
    if held is not None:
        sled.cache_dtype = held
    state = EngineState.allocate(sled, 5, 64, torch.zeros(WIDTH), torch.ones(WIDTH), zeroed=True)
    if held is not None:
        state.cache.add_scales()
    network = PackedNetwork(sled, state, PLAIN)
    flat = torch.zeros(COLUMN_FIELDS * 8 + STREAM_FIELDS * 4, dtype=torch.long, device=imagined)
    codes, seen = network.step(StepInputs.view(flat, 8, 4, 64))
    assert (codes.device.type, tuple(codes.shape), codes.dtype) == ("meta", (4,), torch.int32)
    assert (seen.device.type, tuple(seen.shape), seen.dtype) == ("meta", (8, TINY["hidden_size"]), torch.bfloat16)
    made = sled.generator.modulation(torch.zeros(3, 8, TINY["noise_channels"], dtype=torch.bfloat16, device=imagined))
    index = torch.zeros(3, dtype=torch.long, device=imagined)
    for block, new in zip(state.blocks, made.blocks, strict=True):
        block[index] = new


@pytest.mark.parametrize("tells", [0, WIDTH])
@pytest.mark.parametrize(("count", "fresh"), [(7, True), (4, False), (2, False)])
def test_a_decode_reads_no_number_and_stays_on_its_device(
    imagined: torch.device, count: int, fresh: bool, tells: int
) -> None:
    config = CodecConfig(sampling_rate=4000, dimension=WIDTH, n_filters=4, ratios=(5, 4, 2, 2), codebook_size=16, n_q=2)
    codec = Codec(config).eval().requires_grad_(False).to(imagined)
    decoder = codec.streaming_decoder(5)
    decoder._device = torch.device("cpu")  # for autocast, which knows no imagined device
    sled = Sled(SledConfig.from_dict(TINY)).to(imagined)
    made = DeviceCodec.__new__(DeviceCodec)
    made.decoder, made._state = (
        decoder,
        EngineState.allocate(sled, 5, 64, torch.zeros(WIDTH), torch.ones(WIDTH), zeroed=True),
    )
    made._tells = tells
    where = torch.zeros(6, dtype=torch.long, device=imagined)
    waves = made._work(where, count, fresh)()
    assert (waves.device.type, tuple(waves.shape)) == ("meta", (3, (80 + tells) * count))
