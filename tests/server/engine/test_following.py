"""Where the engine says that a network looked, against its attention over the whole utterance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sled_tts.model.errors import CheckpointError
from sled_tts.model.following import AlignmentHeads
from sled_tts.model.training.attention_map import head_maps
from sled_tts.model.training.batches import Batch
from sled_tts.model.training.layout import PromptSpan
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.request import AudioChunk, Finished, Float32, Mode, Prompt, SynthesisRequest
from sled_tts.server.engine.runner import SledRunner
from tests.fakes import admit, make_engine, push, run_dry, tiny_codec, tiny_runner
from tests.model.factories import TINY, tiny, token_ids

HEADS = AlignmentHeads(1, (0, 2), 0.02)
N, M = 3, 4


def following(slots: int = 3) -> SledRunner:
    plain, sled, _ = tiny_runner(slots, stream_n=N, stream_m=M)
    return SledRunner(sled, tiny_codec(), plain.state.mean, plain.state.std, slots=slots, alignment=HEADS)


def spoken_prompt(frames: int, ids: tuple[int, ...] = ()) -> Prompt:
    draw = torch.randn(frames, TINY["vae_embed_dim"], generator=torch.Generator().manual_seed(4))
    return Prompt(draw.numpy(), ids)


def heard(runner: SledRunner | DeviceRunner, *, block: bool, company: bool) -> tuple[list[Float32], Float32]:
    """Looks and latents of a stream whose text trickles in."""
    engine = make_engine(runner, lambda: 0.0)
    ids = token_ids(10, 5)
    prompt = spoken_prompt(8, tuple(token_ids(5, 9)[:-1])) if block else None
    request = SynthesisRequest(
        "a", Mode.STREAMING, 1, max_frames=18, prompt=prompt, keep_latents=True, follow_text=True
    )
    slot, listener = admit(engine, request)
    if company:
        other = SynthesisRequest("b", Mode.STREAMING, 2, max_frames=9, token_ids=tuple(token_ids(7, 6)))
        admit(engine, other)
    text = ids[1:] if block else ids
    push(engine, slot, listener, text[:4])
    run_dry(engine)
    push(engine, slot, listener, text[4:], final=True)
    run_dry(engine)
    assert isinstance(listener.end, Finished)
    assert listener.end.latents is not None
    looks = [look for event in listener.events if isinstance(event, AudioChunk) for look in event.looks]
    return looks, listener.end.latents


@pytest.mark.parametrize("block", [False, True])
def test_looks_are_the_attention_of_the_named_heads_to_the_text_read_so_far(block: bool) -> None:
    runner = following()
    looks, latents = heard(runner, block=block, company=True)
    assert len(looks) == len(latents) >= 14
    before = spoken_prompt(8).latents if block else np.zeros((0, TINY["vae_embed_dim"]), np.float32)
    whole = (torch.from_numpy(np.concatenate([before, latents])) - runner.state.mean) / runner.state.std
    ids = token_ids(10, 5)
    told = token_ids(5, 9)[:-1] if block else []
    text = told + (ids[1:] if block else ids)
    batch = Batch(
        torch.tensor([text]),
        torch.ones(1, len(text), dtype=torch.bool),
        whole[None],
        torch.ones(1, len(whole), dtype=torch.bool),
        torch.full((1, len(whole)), -1),
        [PromptSpan(len(told), len(before))],
    )
    # Weights as trained: those of the runner are packed.
    maps = head_maps(tiny(seed=3, stream_n=N, stream_m=M)[0], batch)[HEADS.layer, list(HEADS.heads)].numpy()
    for frame, look in enumerate(looks):
        want = maps[:, frame, : len(look)]
        np.testing.assert_allclose(look, (want / want.sum(-1, keepdims=True)).mean(0), atol=1e-4)
        assert (maps[:, frame, len(look) :] == 0).all()


def test_looks_do_not_depend_on_company_and_change_nothing() -> None:
    alone, latents = heard(following(), block=True, company=False)
    shared, same = heard(following(), block=True, company=True)
    assert len(alone) == len(shared)
    assert all(np.array_equal(a, b) for a, b in zip(alone, shared, strict=True))
    unwatched, also = heard(tiny_runner(3, stream_n=N, stream_m=M)[0], block=True, company=False)
    assert unwatched == []
    assert np.array_equal(latents, same)
    assert np.array_equal(latents, also)


@pytest.mark.parametrize("block", [False, True])
def test_the_runner_for_gpus_looks_where_the_other_does(block: bool) -> None:
    ragged, latents = heard(following(), block=block, company=True)
    plain, sled, _ = tiny_runner(3, stream_n=N, stream_m=M)
    packed = DeviceRunner(sled, tiny_codec(), plain.state.mean, plain.state.std, slots=3, alignment=HEADS, lag=1)
    looks, close = heard(packed, block=block, company=True)
    np.testing.assert_allclose(close, latents, atol=1e-4)
    for a, b in zip(ragged, looks, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    "entry",
    [
        {"layer": 2, "heads": [0], "lead_s": 0.0},
        {"layer": 1, "heads": [], "lead_s": 0.0},
        {"layer": 1, "heads": [3], "lead_s": 0.0},
        {"layer": 1, "heads": [0]},
        {"layer": 1, "heads": [0], "lead_s": 0.0, "speed": 1},
    ],
)
def test_heads_that_the_network_lacks_are_refused(entry: dict[str, object]) -> None:
    config = tiny()[0].config
    with pytest.raises(CheckpointError, match="alignment"):
        AlignmentHeads.from_dict(entry, config)
    assert AlignmentHeads.from_dict(HEADS.to_dict(), config) == HEADS
    assert AlignmentHeads.from_dict(None, config) is None
