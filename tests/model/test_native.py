"""The compiled kernels: they are what torch's operators are, a row's bits are its own, and doing without them works."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.kv_cache import KVCache
from sled_tts.model.native import build
from sled_tts.model.native.library import SWITCH, Native, Team, describe, load, loaded
from sled_tts.model.native.product import NativeProduct
from sled_tts.model.quantization import Precision
from sled_tts.model.sled import Sled
from sled_tts.model.stepping import forward_packed, pack
from tests.model.factories import tiny

needs_kernels = pytest.mark.skipif(loaded().functions is None, reason=loaded().reason)
# Sizes with full vectors, with tails, and smaller than a vector.
WIDE = {"hidden_size": 192, "intermediate_size": 328, "num_attention_heads": 3, "diffloss_w": 72}
ODD = {"hidden_size": 60, "intermediate_size": 41, "num_attention_heads": 3, "diffloss_w": 20}
NEAR = {Precision.FP32: 2e-5, Precision.BF16: 0.02, Precision.INT8: 0.05}


def _pair(precision: Precision, sizes: dict[str, int]) -> tuple[Sled, Sled]:
    """The same network by kernels and, in fp32, by operators."""
    fast, slow = tiny(4, **sizes)[0], tiny(4, **sizes)[0]
    fast.prepare_for_inference(precision)
    if fast.compiled is None:
        pytest.skip(f"no compiled kernels for {precision} on this machine")
    return fast, slow.prepare_for_inference(compiled=False)


def _walk(model: Sled, inputs: list[Tensor], pieces: list[list[int]]) -> Tensor:
    """All hidden states of some rows that take their inputs in pieces."""
    cache = KVCache.allocate(model.config, len(inputs) + 1, 32, dtype=model.cache_dtype or torch.float32)
    done, out = [0] * len(inputs), [list[Tensor]() for _ in inputs]
    for turn in range(max(map(len, pieces))):
        rows = [row for row in range(len(inputs)) if turn < len(pieces[row])]
        counts = [pieces[row][turn] for row in rows]
        plan = pack(cache, rows, counts, len(inputs))
        parts = [inputs[row][done[row] : done[row] + count] for row, count in zip(rows, counts, strict=True)]
        padding = torch.zeros(plan.columns - plan.used, inputs[0].shape[1])
        hidden = forward_packed(model, torch.cat([*parts, padding]), cache, plan)
        for row, count, made in zip(rows, counts, torch.split(hidden[: plan.used], counts), strict=True):
            out[row].append(made)
            done[row] += count
    return torch.cat([torch.cat(made) for made in out])


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("sizes", [WIDE, ODD], ids=["wide", "odd"])
@torch.inference_mode()
def test_a_step_is_that_of_the_operators(precision: Precision, sizes: dict[str, int]) -> None:
    fast, slow = _pair(precision, sizes)
    rng = torch.Generator().manual_seed(1)
    inputs = [torch.randn(count, sizes["hidden_size"], generator=rng) for count in (9, 21, 1)]
    pieces = [[1, 3, 5], [14, 1, 1, 5], [1]]
    got, want = _walk(fast, inputs, pieces), _walk(slow, inputs, pieces)
    assert (got - want).norm() / want.norm() < NEAR[precision]
    if precision is not Precision.FP32:
        assert not torch.equal(got, want)


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("sizes", [WIDE, ODD], ids=["wide", "odd"])
@torch.inference_mode()
def test_a_latent_is_that_of_the_operators(precision: Precision, sizes: dict[str, int]) -> None:
    fast, slow = _pair(precision, sizes)
    rng = torch.Generator().manual_seed(2)
    z, noise = torch.randn(11, sizes["hidden_size"], generator=rng), torch.randn(4, 5, 6, generator=rng)
    ahead = slow.generator.modulation(noise)
    slots, index = [0, 3, 1, 1, 2, 0, 3, 2, 1, 0, 3], [4, 0, 2, 3, 1, 1, 4, 0, 1, 0, 2]
    want, got = slow.latents(z, ahead, slots, index), fast.latents(z, ahead, slots, index)
    assert (got - want).norm() / want.norm() < NEAR[precision]
    for rows in (1, 2, 7):
        assert torch.equal(fast.latents(z[:rows], ahead, slots[:rows], index[:rows]), got[:rows])


@needs_kernels
def test_an_address_on_another_device_is_refused() -> None:
    native = load()
    assert native is not None
    product = NativeProduct.of(native, torch.ones(4, 3), None, Precision.FP32)
    assert product is not None
    with pytest.raises(ModelError, match="not on meta"):
        product(torch.ones(2, 3, device="meta"))


@needs_kernels
@pytest.mark.parametrize("precision", list(Precision))
@torch.inference_mode()
def test_bits_depend_neither_on_threads_nor_on_the_number_of_rows(precision: Precision) -> None:
    native = load()
    assert native is not None
    rng = torch.Generator().manual_seed(3)
    weight, bias, x = (torch.randn(*shape, generator=rng) for shape in ((200, 130), (200,), (29, 130)))
    product = NativeProduct.of(native, weight, bias, precision)
    if product is None:
        pytest.skip(f"no kernels for {precision} on this machine")
    whole = product(x)
    for rows in range(1, 18):
        assert torch.equal(product(x[5 : 5 + rows]), whole[5 : 5 + rows])
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert native.functions.team_threads(native.team.pointer) == threads
            assert torch.equal(product(x), whole)
    finally:
        torch.set_num_threads(before)


@needs_kernels
@torch.inference_mode()
def test_threads_share_a_step_without_changing_it() -> None:
    fast, _ = _pair(Precision.FP32, WIDE)
    rng = torch.Generator().manual_seed(5)
    inputs = [torch.randn(6, 192, generator=rng) for _ in range(4)]
    pieces = [[1] * 6, [2, 4], [6], [3, 1, 2]]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = _walk(fast, inputs, pieces)
        torch.set_num_threads(3)
        for _ in range(20):
            assert torch.equal(_walk(fast, inputs, pieces), alone)
    finally:
        torch.set_num_threads(before)


@needs_kernels
def test_keys_and_values_are_rounded_to_the_nearest_bf16() -> None:
    fast, _ = _pair(Precision.BF16, WIDE)
    assert fast.cache_dtype == torch.bfloat16
    inputs = torch.randn(5, 192, generator=torch.Generator().manual_seed(6))
    exact, rough = (KVCache.allocate(fast.config, 2, 8, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    with torch.inference_mode():
        for cache in (exact, rough):
            forward_packed(fast, torch.cat([inputs, torch.zeros(1, 192)]), cache, pack(cache, [0], [5], 1))
    # The first layer has read the same inputs.
    assert torch.equal(exact.keys[0][0, :, :5].bfloat16(), rough.keys[0][0, :, :5])
    assert torch.equal(exact.values[0][0, :, :5].bfloat16(), rough.values[0][0, :, :5])


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@torch.inference_mode()
def test_what_is_not_a_number_stays_one_and_with_its_row(precision: Precision, bad: float) -> None:
    fast, slow = _pair(precision, WIDE)
    inputs = torch.randn(2, 4, 192, generator=torch.Generator().manual_seed(7))
    clean = _walk(fast, list(inputs), [[1] * 4] * 2)
    inputs[0, 1] = bad
    dirty = _walk(fast, list(inputs), [[1] * 4] * 2)
    # Inputs that come later only see it through attention.
    assert dirty[1].isnan().all()
    assert torch.equal(dirty[:1], clean[:1])
    assert torch.equal(dirty[4:], clean[4:])
    ahead = slow.generator.modulation(torch.zeros(1, 1, 6))
    made = fast.latents(dirty[:2].contiguous(), ahead, [0, 0], [0, 0])
    assert made[0].isfinite().all()
    assert made[1].isnan().all()


def test_switched_off_the_operators_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "off")
    assert load() is None
    assert describe().startswith("torch's operators")
    assert tiny(1)[0].prepare_for_inference().compiled is None
    monkeypatch.setenv(SWITCH, "perhaps")
    with pytest.raises(ModelError, match="perhaps"):
        load()


def test_without_compiler_and_library_the_reason_is_told(tmp_path: Path) -> None:
    code = (
        "from sled_tts.model.native import build, library\n"
        "build.FOLDER = build.Path('/nonexistent')\n"
        "print(library.load()); print(library.describe())"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path), "CC": "", SWITCH: "auto"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[0] == "None"
    assert "no C compiler" in done.stdout
    refused = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment | {SWITCH: "require"}
    )
    assert "compiled kernels are required" in refused.stderr


@pytest.mark.skipif(build.compiler() is None, reason="no C compiler")
def test_every_target_of_this_processor_can_be_built_and_run(tmp_path: Path) -> None:
    """The second best too, which other machines get: it must say the same."""
    assert build.main(["--into", str(tmp_path)]) == 0
    best = build.best_target()
    ours = build.targets()[build.targets().index(best) :]
    want = None
    for target in ours:
        functions = ctypes.CDLL(str(tmp_path / build.library_name(target)))
        for name in ("team_new", "team_free", "product_bytes", "product_panel", "product_pack", "sled_product"):
            prototype = getattr(loaded().functions, name)
            getattr(functions, name).restype, getattr(functions, name).argtypes = prototype.restype, prototype.argtypes
        functions.sled_large_pages.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        native = Native(functions, tmp_path, Team(functions))
        rng = torch.Generator().manual_seed(8)
        weight, x = torch.randn(50, 37, generator=rng), torch.randn(5, 37, generator=rng)
        product = NativeProduct.of(native, weight, None, Precision.FP32)
        assert product is not None
        made = product(x)
        torch.testing.assert_close(made, x @ weight.t(), atol=1e-4, rtol=1e-4)
        want = made if want is None else want
        torch.testing.assert_close(made, want, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(build.compiler() is None, reason="no C compiler")
def test_sources_that_do_not_compile_are_a_reason_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "sources"
    broken.mkdir()
    (broken / "step.c").write_text("int sled_product(", encoding="utf-8")
    monkeypatch.setattr(build, "FOLDER", broken)
    with pytest.raises(ModelError, match="failed"):
        build.build(build.PLAIN, tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []
