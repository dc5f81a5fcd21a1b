"""Streaming decode gives what offline decode gives, however it is cut and whoever shares the batch."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from tests.model.codec.factories import DEEP, NO_LSTM, SHAPES, SMALL, random_codec, random_latents

CODECS = {name: random_codec(config, seed) for seed, (name, config) in enumerate(SHAPES.items())}
TOLERANCE = 1e-5


def offline(codec: Codec, latents: Tensor) -> Tensor:
    """`[S, D]` to `[S * hop]`."""
    return codec.decode(latents[None])[0]


def close(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 24), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_any_chunking_is_the_offline_wave(name: str, cuts: list[int], seed: int) -> None:
    codec = CODECS[name]
    first = max(cuts[0], codec.config.first_chunk_frames)
    latents = random_latents(codec.config, first + sum(cuts[1:]), seed)
    decoder = codec.streaming_decoder(1)
    pieces = [decoder.decode([chunk], [0])[0] for chunk in torch.split(latents, [first, *cuts[1:]])]
    assert [len(p) for p in pieces] == [codec.config.hop_length * n for n in (first, *cuts[1:])]
    close(torch.cat(pieces), offline(codec, latents))


@pytest.mark.parametrize("name", SHAPES)
def test_every_whole_utterance_shorter_than_the_first_chunk(name: str) -> None:
    codec = CODECS[name]
    decoder = codec.streaming_decoder(1)
    for frames in range(1, codec.config.first_chunk_frames):
        latents = random_latents(codec.config, frames, frames)
        decoder.reset([0])
        close(decoder.decode([latents], [0], [True])[0], offline(codec, latents))
        decoder.reset([0])
        with pytest.raises(ValueError, match=f"needs {codec.config.first_chunk_frames} latents, got {frames}"):
            decoder.decode([latents], [0], [False])


def test_the_first_chunk_may_not_be_shorter_than_it_says() -> None:
    """One frame fewer and no decoder could know what offline decode mirrors to the left of frame 0."""
    for config in (SMALL, DEEP, NO_LSTM):
        codec, frames = random_codec(config), config.first_chunk_frames
        latents = random_latents(config, frames + 4)
        short = offline(codec, latents[: frames - 1])
        assert (short - offline(codec, latents)[: len(short)]).abs().max() > 100 * TOLERANCE
        enough = offline(codec, latents[:frames])
        close(enough, offline(codec, latents)[: len(enough)])


@pytest.mark.parametrize("seed", range(40))
def test_streams_out_of_step_share_batches_and_slots(seed: int) -> None:
    """Five utterances, three slots: random schedules with late starts, early ends, idle slots and reuse."""
    draw = random.Random(seed)
    codec = CODECS["small"]
    first = codec.config.first_chunk_frames
    waiting = [random_latents(codec.config, draw.randint(1, 20), seed + k) for k in range(5)]
    decoder = codec.streaming_decoder(3)
    running: dict[int, tuple[Tensor, int, list[Tensor]]] = {}
    finished = 0
    while waiting or running:
        for slot in range(3):
            if slot not in running and waiting and draw.random() < 0.5:
                decoder.reset([slot])
                running[slot] = (waiting.pop(), 0, [])
        chunks, slots, final = [], [], []
        for slot in draw.sample(sorted(running), len(running)):
            latents, at, _ = running[slot]
            size = draw.randint(first if at == 0 else 0, first + 5)
            if draw.random() < 0.25:
                continue
            chunks.append(latents[at : at + size])
            slots.append(slot)
            final.append(at + size >= len(latents))
        for slot, chunk, wave, last in zip(slots, chunks, decoder.decode(chunks, slots, final), final, strict=True):
            latents, at, heard = running[slot]
            heard.append(wave)
            running[slot] = (latents, at + len(chunk), heard)
            if last:
                close(torch.cat(heard), offline(codec, latents))
                finished += 1
                del running[slot]
    assert finished == 5


def test_a_slot_remembers_nothing_after_reset_and_everything_without() -> None:
    codec = CODECS["small"]
    first, second = random_latents(SMALL, 9, 1), random_latents(SMALL, 9, 2)
    decoder = codec.streaming_decoder(2)
    decoder.decode([first], [0])
    carried = decoder.decode([second], [0])[0]
    close(carried, offline(codec, torch.cat([first, second]))[9 * SMALL.hop_length :])
    decoder.reset([0])
    anew = decoder.decode([second], [0])[0]
    close(anew, offline(codec, second))
    assert (anew - carried).abs().max() > 1e-2


def test_chunks_without_carried_state_would_be_wrong() -> None:
    """The carried state is what the other tests measure: without it the cut is far outside the tolerance."""
    codec = CODECS["small"]
    latents = random_latents(SMALL, 20)
    separately = torch.cat([offline(codec, latents[:10]), offline(codec, latents[10:])])
    assert (separately - offline(codec, latents)).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_depend_neither_on_chunking_nor_on_company(threads: int) -> None:
    """Exact equality, so that a seed means one wave. Holds for MKL, whose rows of a product do not depend on the
    row count once that is a multiple of four."""
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this torch has no MKL")
    config = CodecConfig(sampling_rate=16_000, dimension=32, n_filters=16, codebook_size=16, n_q=2)
    codec = random_codec(config)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        latents = torch.stack([random_latents(config, 31, seed) for seed in range(7)])
        alone = []
        for row in latents:
            alone.append(codec.streaming_decoder(1).decode([row], [0])[0])
        for rows in (2, 3, 5, 7):
            for sizes in ([7, 1, 2, 3, 5, 6, 7], [8, 8, 8, 7], [31]):
                decoder = codec.streaming_decoder(rows)
                parts = [
                    decoder.decode(list(part), list(range(rows))) for part in torch.split(latents[:rows], sizes, dim=1)
                ]
                for row in range(rows):
                    assert torch.equal(torch.cat([part[row] for part in parts]), alone[row]), (rows, sizes)
    finally:
        torch.set_num_threads(before)


def test_bad_calls_name_the_fault_and_change_nothing() -> None:
    codec = CODECS["small"]
    decoder = codec.streaming_decoder(2)
    good = random_latents(SMALL, 9)
    with pytest.raises(ValueError, match="slots must be >= 1"):
        codec.streaming_decoder(0)
    with pytest.raises(ValueError, match="only once"):
        decoder.decode([good, good], [1, 1])
    for slot in (-1, 2):
        with pytest.raises(ValueError, match=r"slot must be in 0\.\.1"):
            decoder.decode([good, good], [0, slot])
    with pytest.raises(ValueError, match=r"chunks must be \[S, 6\]"):
        decoder.decode([good, good[:, :5]], [0, 1])
    with pytest.raises(ValueError, match="zip"):
        decoder.decode([good], [0, 1])
    close(decoder.decode([good], [0])[0], offline(codec, good))


def test_surrounding_autocast_and_half_precision_latents_change_nothing() -> None:
    codec = CODECS["small"]
    latents = random_latents(SMALL, 12).bfloat16()
    want = offline(codec, latents.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(offline(codec, latents), want)
        wave = codec.streaming_decoder(1).decode([latents], [0])[0]
        codes = codec.encode_codes(want[None, None])
    assert wave.dtype == torch.float32
    close(wave, want)
    assert torch.equal(codes, codec.encode_codes(want[None, None]))


@pytest.mark.parametrize(
    ("changes", "frames"),
    [
        ({}, 7),
        ({"kernel_size": 9}, 9),
        ({"n_residual_layers": 4, "dilation_base": 3, "ratios": (2, 2)}, 28),
        ({"decoder_residual_layers": 4, "dilation_base": 3, "ratios": (2, 2)}, 28),
    ],
)
def test_first_chunk_frames(changes: dict[str, object], frames: int) -> None:
    """28: three taps 27 samples apart look back 54, at two samples a frame."""
    assert dataclasses.replace(CodecConfig(), **changes).first_chunk_frames == frames  # type: ignore[arg-type]
