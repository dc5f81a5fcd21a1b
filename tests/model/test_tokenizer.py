"""Byte-level BPE: whole texts, and deltas in any cutting."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sled_tts.model.errors import CheckpointError, TokenizerError
from sled_tts.model.incremental import IncrementalTokenizer
from sled_tts.model.tokenizer import BOS, EOS, Tokenizer, train_tokenizer

TEXT = [
    "the quick brown fox jumps over the lazy dog, they're sure it isn't theirs; we'll see",
    "she said that there were 1234 things in 2024 and I've had  two   spaces",
    "naïve café — “quoted” text… don't 'tis re: 've ll",
] * 3
ALPHABET = st.sampled_from(list("thers  '',.!19\n\té…—日🛷a'sredvlm"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXT, 420)


def common(a: list[int], b: list[int]) -> list[int]:
    return [x for x, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))]


def feed(tokenizer: Tokenizer, deltas: list[str]) -> list[int]:
    incremental = IncrementalTokenizer(tokenizer)
    out = [i for delta in deltas for i in incremental.feed(delta)]
    return out + incremental.finish()


@settings(max_examples=400, deadline=None)
@given(text=st.one_of(st.text(ALPHABET, max_size=40), st.text(max_size=25)), data=st.data())
def test_any_cutting_gives_the_ids_of_the_whole(tokenizer: Tokenizer, text: str, data: st.DataObject) -> None:
    text = text.encode("utf-8", "ignore").decode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    deltas = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert feed(tokenizer, deltas) == tokenizer.encode(text)


@pytest.mark.parametrize("text", TEXT[:3])
def test_character_by_character(tokenizer: Tokenizer, text: str) -> None:
    assert feed(tokenizer, list(text)) == tokenizer.encode(text)


@settings(max_examples=60, deadline=None)
@given(text=st.text(ALPHABET, min_size=1, max_size=12))
def test_released_as_soon_as_nothing_can_change_it(tokenizer: Tokenizer, text: str) -> None:
    """What is held back must differ between two continuations (or with the end of the text)."""
    incremental = IncrementalTokenizer(tokenizer)
    released = [i for c in text for i in incremental.feed(c)]
    endings = ["", *map(chr, range(32, 127)), *"é日\n", "ing", "ther", "hers", "re it", "st", "nd", "see", "  x", "'s"]
    endings += [a + b for a in "thers .'1" for b in "thers .'1aeiou"]
    endings += [word[i:] for line in TEXT[:3] for word in line.split(" ") for i in range(len(word))]
    kept = None
    for ending in endings:
        ids = tokenizer.encode(text + ending)[:-1]
        assert ids[: len(released)] == released
        kept = ids if kept is None else common(kept, ids)
    assert kept is not None
    assert len(released) == len(kept), f"{kept[len(released) :]} could have been released after {text!r}"


def test_bos_comes_first_and_eos_last(tokenizer: Tokenizer) -> None:
    incremental = IncrementalTokenizer(tokenizer)
    assert incremental.feed("")[0] == BOS
    assert incremental.finish() == [EOS]


def test_surrogates_may_arrive_apart_but_not_alone(tokenizer: Tokenizer) -> None:
    assert feed(tokenizer, ["a\ud83d", "\udef7b"]) == tokenizer.encode("a🛷b")
    with pytest.raises(TokenizerError, match="surrogate"):
        feed(tokenizer, ["a\ud83d"])
    with pytest.raises(TokenizerError, match="surrogate"):
        tokenizer.encode("\udef7")


def test_long_text_without_spaces_is_linear(tokenizer: Tokenizer) -> None:
    text = "abcdefgh" * 2_000
    assert feed(tokenizer, [text[i : i + 7] for i in range(0, len(text), 7)]) == tokenizer.encode(text)


def test_special_tokens_in_text_are_text(tokenizer: Tokenizer) -> None:
    assert EOS not in tokenizer.encode("a </s> b")[1:-1]
    assert EOS in tokenizer.encode("a </s> b", parse_special=True)[1:-1]


def test_ids_from_outside_are_checked(tokenizer: Tokenizer) -> None:
    assert tokenizer.check_ids([10, 11]) == [10, 11]
    for bad in (EOS, tokenizer.vocab_size, -1):
        with pytest.raises(TokenizerError, match="index 1"):
            tokenizer.check_ids([10, bad])


def test_save_and_load(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).encode(TEXT[2]) == tokenizer.encode(TEXT[2])
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match=r"merges\.txt"):
        Tokenizer.load(tmp_path)
