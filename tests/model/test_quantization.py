"""Packed products: right, the same bits in any company, and honest about what int8 costs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from sled_tts.model.errors import ConfigError
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.quantization import (
    Precision,
    Projection,
    activation_middle,
    available,
    pack,
    quantise_channels,
)
from tests.model.factories import tiny, token_ids

# Outputs and inputs of the real networks' layers, and of tiny ones.
SHAPES = [(3072, 1024), (1024, 2752), (1536, 256), (256, 768), (64, 256), (40, 24), (10, 16)]
TOLERANCE = {Precision.FP32: 1e-5, Precision.BF16: 0.01, Precision.INT8: 0.03}


def _layer(shape: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    outputs, inputs = shape
    weight = torch.randn(outputs, inputs, generator=rng) * inputs**-0.5
    return weight, torch.randn(outputs, generator=rng), torch.randn(300, inputs, generator=rng)


def _usable(precision: Precision) -> Precision:
    if not available(precision):
        pytest.skip(f"this processor has no {precision} kernels")
    return precision


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("shape", SHAPES)
def test_a_packed_product_is_the_product(shape: tuple[int, int], precision: Precision) -> None:
    weight, bias, x = _layer(shape)
    want = torch.nn.functional.linear(x, weight, bias)
    got = pack(weight, bias, _usable(precision))(x)
    assert got.dtype == torch.float32
    assert (got - want).norm() / want.norm() < TOLERANCE[precision]
    cube = pack(weight, None, precision)(x.view(2, 150, -1))
    assert (cube + bias - want.view(2, 150, -1)).norm() / want.norm() < TOLERANCE[precision]


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_a_row_has_the_same_bits_in_any_company(shape: tuple[int, int], precision: Precision) -> None:
    weight, bias, x = _layer(shape)
    product = pack(weight, bias, _usable(precision))
    want = product(x[:4])
    assert torch.equal(product(x[:2]), want[:2])
    for rows in (4, 6, 8, 10, 14, 20, 32, 64, 130, 300):
        first = product(x[:rows].contiguous())[:4]
        assert torch.equal(first, want), rows
        last = product(torch.cat([x[10 : 10 + rows - 4], x[:4]]))[-4:]
        assert torch.equal(last, want), rows


def test_one_loud_row_does_not_blur_the_others() -> None:
    """Activations are scaled row by row, not by the batch's largest."""
    weight, _, x = _layer((1024, 256))
    product = pack(weight, None, _usable(Precision.INT8))
    quiet, loud = x[:4], torch.cat([x[:4], 1e4 * x[4:8]])
    assert torch.equal(product(loud)[:4], product(quiet))


def test_levels_use_the_whole_range_of_each_channel() -> None:
    weight = torch.tensor([[0.5, -1.0, 0.25], [0.0, 0.0, 0.0], [3e-5, 1e-5, -2e-5]])
    levels, scale = quantise_channels(weight)
    assert levels[0].tolist() == [64, -127, 32]
    assert levels[1].tolist() == [0, 0, 0]
    assert levels[2, 0].item() == 127
    torch.testing.assert_close(levels * scale[:, None], weight, atol=0.5 / 127, rtol=0)


@pytest.mark.skipif(not available(Precision.INT8), reason="this processor has no int8 kernels")
def test_without_exact_byte_products_activations_get_seven_bits() -> None:
    """oneDNN held to AVX2 adds bytes in 16 bits: the probe must see it, and the product must stay right."""
    code = (
        "import torch; from sled_tts.model.quantization import *\n"
        "w = torch.full((64, 64), 0.5); x = torch.linspace(0.5, 1, 256).view(4, 64)\n"
        "got = pack(w, None, Precision.INT8)(x)\n"
        "want = x @ w.t(); print(activation_middle(), float((got - want).norm() / want.norm()))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    middle, error = done.stdout.split()
    assert int(middle) in (64, 128)
    assert float(error) < 0.02
    assert activation_middle() >= int(middle)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.INT8])
def test_speech_in_low_precision_is_near_that_in_full(precision: Precision) -> None:
    def speak(held: Precision) -> Tensor:
        model = tiny(2, hidden_size=96, intermediate_size=160)[0].prepare_for_inference(held)
        request = GenerationRequest(token_ids(9, seed=1), seeded_noise(4, 6), max_frames=12)
        return generate(model, [request], n=4, m=4, ignore_stop=True)[0].latents

    exact, rough = speak(Precision.FP32), speak(_usable(precision))
    assert 0 < (rough - exact).norm() / exact.norm() < 0.1


def test_released_weights_cost_nothing_and_speak_the_same() -> None:
    model = tiny(2)[0].prepare_for_inference()
    x = torch.randn(3, 5, 24)
    before = model.forward_full(x)
    model.release_weights()
    assert torch.equal(model.forward_full(x), before)
    held = [m for m in model.model.layers.modules() if isinstance(m, Projection)]
    assert held
    assert all(m.weight.is_meta for m in held)


def test_what_the_processor_cannot_do_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sled_tts.model.quantization.available", lambda precision: precision is Precision.FP32)
    with pytest.raises(ConfigError, match="int8") as refused:
        pack(torch.eye(8), None, Precision.INT8)
    assert refused.value.param == "precision"
