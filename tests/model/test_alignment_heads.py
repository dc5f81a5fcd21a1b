"""Heads that follow the text are told from heads that do not, and by how much they are ahead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sled_tts.model.training.alignment_heads import Spoken, choose, judge, word_tokens
from tests.server.sessions.test_feed import TOKENIZER

FRAME_S, LEAD = 0.02, 3


def spoken(seed: int) -> Spoken:
    """Three layers of two heads; the second head of layer 1 follows the text `LEAD` frames ahead of the sound, the
    first one with a lot of noise; the others look anywhere."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 9, 12)
    path = np.repeat(np.arange(12), lengths)
    maps = rng.dirichlet(np.full(12, 0.5), (3, 2, len(path))).astype(np.float32)
    follows = np.eye(12, dtype=np.float32)[path]
    maps[1, 1] = 0.9 * follows + 0.1 * maps[1, 1]
    maps[1, 0] = 0.3 * follows + 0.7 * maps[1, 0]
    tokens = [2, 5, 6, 9]
    starts = np.array([lengths[:token].sum() + LEAD for token in tokens]) * FRAME_S
    return Spoken(maps, tokens, starts)


def test_the_head_that_follows_is_chosen_with_its_lead() -> None:
    found = choose([spoken(k) for k in range(6)], FRAME_S)
    assert found.heads.layer == 1
    assert found.heads.heads == (1,)
    assert found.heads.lead_s == pytest.approx(LEAD * FRAME_S)
    assert found.mean_s < FRAME_S
    assert found.words == 24
    others = [spoken(k) for k in range(6, 9)]
    assert judge(others, 1, [1], FRAME_S, found.heads.lead_s).mean_s < FRAME_S
    assert judge(others, 1, [1], FRAME_S, 0.0).mean_s == pytest.approx(LEAD * FRAME_S, abs=0.01)
    assert judge(others, 0, [0], FRAME_S, None).mean_s > 3 * FRAME_S


@pytest.mark.parametrize("alone", [True, False])
def test_words_begin_in_the_tokens_that_hold_their_first_letters(alone: bool) -> None:
    text = "the fox, and they'll do it so."
    bundle: Any = SimpleNamespace(tokenizer=TOKENIZER)
    ids = TOKENIZER.encode(text) if alone else TOKENIZER.encode(f" {text}")[1:]
    spelled = {index: token.replace("Ġ", " ") for token, index in TOKENIZER.vocab.items()}
    heads = [next(c for c in spelled[ids[token]] if c != " ") for token in word_tokens(bundle, text, ids)]
    assert heads == [word[0] for word in text.split()]
