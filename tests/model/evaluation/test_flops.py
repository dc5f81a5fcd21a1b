"""Operations counted from the configuration are those that PyTorch counts while it speaks."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sled_tts.model.evaluation.cost_tables import Subject, batch_rtf, measure_split, published_shape, table_7
from sled_tts.model.evaluation.flops import StepFlops, decoder_flops, speaking_flops
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.sled import Sled
from tests.fakes import tiny_codec
from tests.model.factories import tiny, token_ids


def _counted(model: Sled, frames: int, tokens: int, *, guided: bool) -> int:
    noise = seeded_noise(0, model.config.generator.noise_channels)
    request = GenerationRequest(token_ids(tokens, 0), noise, frames)
    # The other attention kernels of a CPU are not among those that PyTorch counts.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        generate(model, [request], cfg_scale=2.0 if guided else 1.0, ignore_stop=True)
    return counter.get_total_flops()


@pytest.mark.parametrize(("frames", "tokens"), [(1, 4), (7, 5), (12, 9)])
def test_one_unguided_row_costs_what_the_profiler_counts(frames: int, tokens: int) -> None:
    model, _ = tiny()
    assert speaking_flops(model.config, frames, tokens, guided=False) == _counted(model, frames, tokens, guided=False)


def test_guidance_costs_a_second_row_and_no_second_generator() -> None:
    model, _ = tiny()
    frames, tokens = 9, 6
    step = StepFlops.of(model.config)
    added = speaking_flops(model.config, frames, tokens) - speaking_flops(model.config, frames, tokens, guided=False)
    assert added == frames * step.backbone + (frames - 1) * step.embed + step.attention * sum(range(1, frames + 1))
    # A batch pads its attention, so what is executed is more than what is needed, by attention alone.
    padded = _counted(model, frames, tokens, guided=True) - speaking_flops(model.config, frames, tokens)
    assert padded > 0
    assert padded % step.attention == 0


def test_the_published_network_costs_what_the_paper_says() -> None:
    config, codec = published_shape()
    ten_seconds = round(10 * codec.frame_rate)
    assert speaking_flops(config, ten_seconds, 1, guided=False, attention=False) / 1e9 == pytest.approx(280, rel=0.01)
    step = StepFlops.of(config)
    # Two operations a weight: 151.8 M of the backbone, 34.9 M of the generator (biases and norms aside).
    assert step.backbone / 2 == pytest.approx(151.8e6, rel=1e-3)
    assert step.generator / 2 == pytest.approx(34.9e6, rel=2e-3)
    assert step.modulation / 2 == pytest.approx(21.1e6, rel=2e-3)


def test_decoding_costs_what_the_profiler_counts() -> None:
    codec = tiny_codec()
    frames = 11
    with FlopCounterMode(display=False) as counter:
        codec.decode(torch.randn(1, frames, codec.config.dimension))
    counted = counter.get_total_flops()
    # PyTorch does not count the LSTM; everything else must agree.
    channels = codec.config.n_filters * 2 ** len(codec.config.ratios)
    recurrent = codec.config.lstm * 16 * channels * channels * frames
    assert decoder_flops(codec.config, frames) in (counted, counted + recurrent)


def test_every_part_of_a_frame_takes_time_and_batches_are_measured() -> None:
    model, _ = tiny(vae_embed_dim=tiny_codec().config.dimension)
    subject = Subject("tiny", model, tiny_codec())
    split = measure_split(subject, 20, seed=0)
    assert min(split.prefill, split.backbone, split.generator, split.decode) > 0
    assert split.first_chunk > split.prefill
    assert split.rtf(subject.frame_rate) > 0
    assert batch_rtf(subject, 2, 5, seed=0) > 0
    page = table_7([subject], [1, 3], 4, seed=0)
    assert [row["batch"] for row in page.rows] == [1, 3]
