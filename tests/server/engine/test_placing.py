"""Which runner a device gets, and the gate in front of 8-bit keys and values."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ConfigError
from sled_tts.model.kernels.choose import PLAIN, KernelChoice, choose_kernels
from sled_tts.model.sled import Sled
from sled_tts.server.engine import placing
from sled_tts.server.engine.comparing import latent_error
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.placing import EIGHT_BITS, MOST_CACHE_ERROR, cache_error, check_cache, place_runner
from sled_tts.server.engine.request import Mode, Prompt, SynthesisRequest
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.work import LAST_LATENT, RowWork
from sled_tts.server.wiring import load_service
from tests.fakes import tiny_codec
from tests.model.factories import TINY, tiny, token_ids

WIDTH = TINY["vae_embed_dim"]


def parts(seed: int = 3, **changes: Any) -> tuple[Sled, Codec, torch.Tensor, torch.Tensor]:
    sled = tiny(seed=seed, **changes)[0].prepare_for_inference()
    return sled, tiny_codec(), torch.zeros(WIDTH), torch.ones(WIDTH)


def test_a_cpu_gets_the_runner_whose_bits_do_not_depend_on_company() -> None:
    assert isinstance(place_runner(*parts(), slots=2, positions=64), SledRunner)


@pytest.mark.parametrize(("param", "kernels"), [("kernels", "triton"), ("kv_precision", "auto")])
def test_what_is_for_gpus_is_refused_on_a_cpu(param: str, kernels: str) -> None:
    made = parts()
    if param == "kv_precision":
        made[0].cache_dtype = EIGHT_BITS
    with pytest.raises(ConfigError, match="for GPUs") as caught:
        place_runner(*made, slots=2, positions=64, kernels=kernels)
    assert caught.value.param == param


@pytest.mark.parametrize("setting", [{"kv_precision": "fp8"}, {"kernels": "triton"}])
def test_a_server_on_a_cpu_does_not_start_with_them(setting: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_service(["built-in"], slots=1, threads=1, device="cpu", **setting)
    assert caught.value.param == next(iter(setting))


def test_plain_torch_takes_over_where_triton_cannot_run(caplog: pytest.LogCaptureFixture) -> None:
    """A device that no kernel can be launched on: here, there is no GPU."""
    assert choose_kernels("cpu", torch.float32) is PLAIN
    assert choose_kernels("cuda", torch.float32, KernelChoice.TORCH) is PLAIN
    if torch.cuda.is_available():
        pytest.skip("kernels work here")
    assert choose_kernels("cuda", torch.bfloat16) is PLAIN
    assert "plain torch takes over" in caplog.text
    with pytest.raises(ConfigError, match="do not work") as caught:
        choose_kernels("cuda", torch.bfloat16, KernelChoice.TRITON)
    assert caught.value.param == "kernels"


def test_eight_bits_on_a_gpu_too_old_for_tritons_run_on_plain_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert choose_kernels("cuda", torch.bfloat16, kv8=True) is PLAIN
    reason = "plain torch takes over: Triton's kernels need compute capability 8.9 for e4m3, this GPU has 8.0"
    assert reason in caplog.text
    with pytest.raises(ConfigError, match=r"need compute capability 8\.9") as caught:
        choose_kernels("cuda", torch.bfloat16, KernelChoice.TRITON, kv8=True)
    assert caught.value.param == "kernels"


def test_eight_bits_without_an_operator_for_them_are_refused() -> None:
    def make(slots: int, positions: int) -> DeviceRunner:
        raise NotImplementedError("no e4m3 here")

    with pytest.raises(ConfigError, match="do not work on cpu: no e4m3 here") as caught:
        check_cache(make, parts()[0])
    assert caught.value.param == "kv_precision"


def test_the_gate_lets_good_caches_pass_and_keeps_bad_ones_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sled, codec, mean, std = parts()

    def make(slots: int, positions: int) -> DeviceRunner:
        return DeviceRunner(sled, codec, mean, std, slots=slots, positions=positions, lag=0)

    error = check_cache(make, sled)
    assert 1e-4 < error.overall <= error.worst_frame
    assert error.overall < MOST_CACHE_ERROR
    assert sled.cache_dtype is not EIGHT_BITS
    monkeypatch.setattr(placing, "MOST_CACHE_ERROR", error.overall / 2)
    with pytest.raises(ConfigError, match="latents by") as caught:
        check_cache(make, sled)
    assert caught.value.param == "kv_precision"


def test_eight_bits_without_a_scale_for_each_head_would_not_do() -> None:
    """What the scales are for: keys a thousand times as large are as good as before, without them they are lost."""
    sled, codec, mean, std = parts()

    def make(slots: int, positions: int) -> DeviceRunner:
        return DeviceRunner(sled, codec, mean, std, slots=slots, positions=positions, lag=0)

    before = cache_error(make, sled).overall
    loud = tiny(seed=3)[0]
    with torch.no_grad():
        for layer in loud.layers:
            layer.self_attn.v_proj.weight.mul_(1e4)
            layer.self_attn.o_proj.weight.mul_(1e-4)
    sled = loud.prepare_for_inference()
    assert cache_error(make, sled).overall == pytest.approx(before, rel=0.3)


def test_a_runner_is_no_distance_from_itself_and_some_from_another_network() -> None:
    same = latent_error(*(SledRunner(*parts(), slots=2) for _ in range(2)), streams=2, frames=9, tokens=5)
    assert same.overall == same.worst_frame == 0
    other = latent_error(SledRunner(*parts(), slots=2), SledRunner(*parts(4), slots=2), streams=2, frames=9, tokens=5)
    assert other.overall > 0.1


def test_prompts_in_eight_bits_are_copied_with_their_scales() -> None:
    sled, codec, mean, std = parts(stream_n=3, stream_m=4)
    sled.cache_dtype = EIGHT_BITS
    runner = DeviceRunner(sled, codec, mean, std, slots=2, lag=0)
    draw = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(1)).numpy()
    prompt = Prompt(draw, tuple(token_ids(5, 1)[:-1]))
    spoken = []
    for slot in range(2):  # the second is a copy of what the first one read
        runner.open(slot, SynthesisRequest(f"r{slot}", Mode.STREAMING, 7, 2.0, prompt=prompt))
        runner.step([RowWork(slot, (5, 6, 7), (-2 - 8,))])
        for _ in range(5):
            runner.step([RowWork(slot, (LAST_LATENT,), (LAST_LATENT,))])
        spoken.append(runner.latents(slot, 9, 6))
    assert runner._prefixes.bytes > 0
    torch.testing.assert_close(torch.from_numpy(spoken[0]), torch.from_numpy(spoken[1]), atol=1e-5, rtol=1e-5)
