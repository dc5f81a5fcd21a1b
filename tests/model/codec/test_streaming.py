"""Streaming decode equals offline decode for any chunking, with streams out of step in shared slots."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig

CONFIGS = {
    "encodec-like": CodecConfig(sampling_rate=24_000, dimension=8, n_filters=2, codebook_size=16, n_q=2),
    "slow frames": CodecConfig(
        sampling_rate=16_000, dimension=6, n_filters=2, ratios=(5, 4, 2), n_residual_layers=2, lstm=1,
        codebook_size=16, n_q=2,
    ),
    "no lstm": CodecConfig(
        sampling_rate=8_000, dimension=4, n_filters=2, ratios=(4, 2), lstm=0, codebook_size=16, n_q=1
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CONFIGS)
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(7)
    built = Codec(CONFIGS[request.param])
    built.quantizer.codebooks.normal_()
    return built.eval().requires_grad_(False)


def cut(frames: int, first: int, sizes: list[int]) -> list[int]:
    """Chunk lengths that sum to `frames`, the first of at least `first`."""
    out, left = [min(frames, first)], frames - min(frames, first)
    for size in sizes:
        if left <= 0:
            break
        out.append(min(size, left))
        left -= out[-1]
    return out if left <= 0 else [*out, left]


@settings(max_examples=40, deadline=None)
@given(frames=st.integers(1, 40), extra=st.integers(0, 5), sizes=st.lists(st.integers(1, 9), max_size=20))
def test_any_chunking_equals_offline(codec: Codec, frames: int, extra: int, sizes: list[int]) -> None:
    latents = torch.randn(1, frames, codec.config.dimension)
    decoder = codec.streaming_decoder(2)
    lengths = cut(frames, codec.config.first_chunk_frames + extra, sizes)
    parts, at = [], 0
    for index, length in enumerate(lengths):
        chunk = latents[0, at : at + length]
        parts += decoder.decode([chunk], [1], [index == len(lengths) - 1])
        at += length
    torch.testing.assert_close(torch.cat(parts), codec.decode(latents)[0], atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_streams_out_of_step_share_calls_and_slots(codec: Codec, seed: int) -> None:
    """Random companies of streams: started at different times, in reused slots, with different chunk sizes."""
    rng = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=rng))

    utterances = [torch.randn(draw(1, 30), codec.config.dimension, generator=rng) for _ in range(6)]
    got: list[list[torch.Tensor]] = [[] for _ in utterances]
    decoder = codec.streaming_decoder(3)
    waiting, running = list(range(6)), {}
    while waiting or running:
        for slot in range(3):
            if slot not in running and waiting and draw(0, 1):
                running[slot] = [waiting.pop(0), 0]
                decoder.reset([slot])
        chosen = [slot for slot in running if draw(0, 2)]
        chunks, final = [], []
        for slot in chosen:
            which, at = running[slot]
            least = codec.config.first_chunk_frames if at == 0 else 1
            end = min(len(utterances[which]), at + draw(least, least + 4))
            chunks.append(utterances[which][at:end])
            final.append(end == len(utterances[which]))
            running[slot][1] = end
        for slot, wave, last in zip(chosen, decoder.decode(chunks, chosen, final), final, strict=True):
            got[running[slot][0]].append(wave)
            if last:
                del running[slot]
    for latents, parts in zip(utterances, got, strict=True):
        torch.testing.assert_close(torch.cat(parts), codec.decode(latents[None])[0], atol=1e-5, rtol=0)


def test_short_first_chunk_is_refused(codec: Codec) -> None:
    decoder = codec.streaming_decoder(1)
    short = torch.zeros(codec.config.first_chunk_frames - 1, codec.config.dimension)
    with pytest.raises(ValueError, match="first chunk"):
        decoder.decode([short], [0])


def test_a_slot_may_occur_once(codec: Codec) -> None:
    chunk = torch.zeros(9, codec.config.dimension)
    with pytest.raises(ValueError, match="once"):
        codec.streaming_decoder(2).decode([chunk, chunk], [1, 1])
