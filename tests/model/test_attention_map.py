"""The picture of attention against the network itself."""

from __future__ import annotations

import torch

from sled_tts.model.training.attention_map import attention_map
from sled_tts.model.training.batches import Batch
from sled_tts.model.training.layout import NO_PROMPT, PromptSpan
from tests.model.factories import tiny, token_ids


def batch_of(tokens: int, frames: int, prompt: PromptSpan = NO_PROMPT) -> Batch:
    return Batch(
        torch.tensor([token_ids(tokens, 1)]),
        torch.ones(1, tokens, dtype=torch.bool),
        torch.randn(1, frames, 10),
        torch.ones(1, frames, dtype=torch.bool),
        torch.full((1, frames), -1),
        [prompt],
    )


def test_speech_sees_only_the_text_that_was_read_before_it() -> None:
    model, _ = tiny(2, stream_n=2, stream_m=3)
    seen = attention_map(model.eval(), batch_of(6, 9))
    assert seen.shape[1:] == (9, 6)
    for frame in range(9):
        read = 2 * (frame // 3 + 1)
        assert (seen[:, frame, :read] > 0).all()
        assert (seen[:, frame, read:] == 0).all()
    assert (seen.sum(-1) <= 1 + 1e-5).all()


def test_after_a_prompt_block_the_order_starts_afresh() -> None:
    model, _ = tiny(2, stream_n=2, stream_m=3)
    seen = attention_map(model.eval(), batch_of(7, 10, PromptSpan(3, 4)))
    assert (seen[:, 4, :5] > 0).all(), "the whole prompt's text and n tokens of the target"
    assert (seen[:, 4, 5:] == 0).all()


def test_offline_all_text_is_seen() -> None:
    model, _ = tiny(2)
    assert (attention_map(model.eval(), batch_of(5, 4)) > 0).all()
