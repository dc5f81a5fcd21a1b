"""Byte-level BPE in the RoBERTa layout: whole texts, and what of an unfinished word is final already.

Two things can still move while text arrives: where a pre-token ends (`model/incremental.py`), and how BPE merges inside
the unfinished one. The second is decided exactly: BPE of a string that has a boundary at q is BPE of both sides, so
whatever follows, the tokens before some q are BPE of the text up to q, where the text after q begins a vocabulary entry
that BPE can put there. What all those q agree on is final.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from tokenizers import AddedToken, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from sled_tts.model.errors import CheckpointError, TokenizerError

BOS, PAD, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_MASK = "<mask>"


def well_formed(text: str) -> str:
    """The text itself. Raises TokenizerError for a lone surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(f"text holds a lone surrogate at character {error.start}", param="text") from None
    return text


def _byte_alphabet() -> dict[str, int]:
    """Which byte each printable stand-in of byte-level BPE means: printable Latin-1 characters mean
    themselves, the others are numbered from U+0100 on."""
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in themselves]
    return {chr(b): b for b in themselves} | {chr(0x100 + i): b for i, b in enumerate(others)}


def common_prefix(a: Sequence[str], b: Sequence[str]) -> list[str]:
    """The tokens that both begin with."""
    return [x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))]


class Tokenizer:
    """Text to ids `<s> ... </s>`; `<s>`=0, pad=1, `</s>`=2, unk=3."""

    def __init__(self, vocab: dict[str, int], merges: Sequence[tuple[str, str]]) -> None:
        for index, name in enumerate(SPECIAL):
            if vocab.get(name) != index:
                raise CheckpointError(f"vocab.json: {name} must have id {index}, has {vocab.get(name)}")
        self.vocab = vocab
        self.vocab_size = len(vocab)
        self._split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        self._bpe = BPE(vocab, list(merges))
        self._plain = Backend(self._bpe)
        self._plain.pre_tokenizer = self._split
        # One word, already in the byte alphabet, without splitting.
        self._word = Backend(BPE(vocab, list(merges)))
        self._parsing = Backend(BPE(vocab, list(merges)))
        self._parsing.pre_tokenizer = self._split
        self._parsing.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
        self._parsing.add_special_tokens([AddedToken(_MASK, lstrip=True, special=True)])
        self._sorted = sorted(token for token, index in vocab.items() if index > UNK)
        self._longest = max(map(len, self._sorted), default=1)
        self._byte_of = _byte_alphabet()
        # Tokens are written in an alphabet of one character a byte.
        self._sizes = {index: 0 if index <= UNK else len(token) for token, index in vocab.items()}

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read `vocab.json` and `merges.txt`."""
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).is_file():
                raise CheckpointError(f"tokenizer file {name} is missing in {folder}", param=name)
        vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
        bad = next((pair for pair in pairs if len(pair) != 2), None)
        if bad is not None:
            raise CheckpointError(f"merges.txt: expected two pieces a line, found {' '.join(bad)!r}")
        return cls(vocab, [(a, b) for a, b in pairs])

    def save(self, folder: Path) -> None:
        """Write `vocab.json` and `merges.txt`. Raises TokenizerError when they cannot be written."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._bpe.save(str(folder))
        except Exception as error:  # the library has no other class for it
            raise TokenizerError(f"could not write {folder}: {error}") from error

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Ids of a whole text.

        What a user writes is text, so `</s>` in it is five characters. `parse_special=True` reads special
        tokens out of the text as the reference does; `<mask>` then has an id outside the embedding, which
        `check_ids` rejects.
        """
        backend = self._parsing if parse_special else self._plain
        return [BOS, *backend.encode(well_formed(text), add_special_tokens=False).ids, EOS]

    def check_ids(self, ids: Iterable[int]) -> list[int]:
        """Ids from outside, as text tokens: in the vocabulary and not special. TokenizerError names the first bad."""
        checked = list(ids)
        for index, value in enumerate(checked):
            if not UNK < value < self.vocab_size:
                raise TokenizerError(
                    f"token id {value} at index {index} is no text token (allowed: {UNK + 1}..{self.vocab_size - 1})",
                    param="tokens",
                )
        return checked

    def text_bytes(self, token: int) -> int:
        """How many bytes of UTF-8 text a token stands for; special ones for none."""
        return self._sizes[token]

    def split(self, text: str) -> list[str]:
        """Pre-tokens in the text's own characters."""
        return [text[start:end] for _, (start, end) in self._split.pre_tokenize_str(text)]

    def to_byte_alphabet(self, text: str) -> str:
        """The printable stand-ins of the text's UTF-8 bytes."""
        return "".join(piece for piece, _ in self._split.pre_tokenize_str(text))

    def merge(self, word: str) -> list[str]:
        """BPE of one pre-token in the byte alphabet."""
        return list(self._word.encode(word, add_special_tokens=False).tokens)

    def final_tokens(self, piece: str, context: str = "") -> list[str]:
        """The tokens (byte alphabet) at the start of an unfinished pre-token that every continuation keeps.

        `context` is text of the same pre-token before it that was forgotten.
        """
        word = self.to_byte_alphabet(piece) if piece else ""
        start = context + piece
        common: list[str] | None = None
        for q in range(max(0, len(word) - self._longest + 1), len(word) + 1):
            before = self.merge(word[:q]) if q else []
            if q < len(word) and not self._can_begin(word[q:], before[-1] if before else None, start):
                continue
            common = before if common is None else common_prefix(common, before)
            if not common:
                return []
        return common or []

    def _can_begin(self, prefix: str, previous: str | None, start: str) -> bool:
        """Whether BPE can put some token that strictly extends `prefix` right after `previous`, within the
        pre-token that begins with `start`."""
        for index in range(bisect_left(self._sorted, prefix), len(self._sorted)):
            token = self._sorted[index]
            if not token.startswith(prefix):
                return False
            if len(token) == len(prefix) or not self._continues(start, token[len(prefix) :]):
                continue
            if self.merge((previous or "") + token) == ([token] if previous is None else [previous, token]):
                return True
        return False

    def _continues(self, start: str, more: str) -> bool:
        """Whether `more` (byte alphabet) can stand in the same pre-token as `start`. Half a character can."""
        try:
            text = bytes(self._byte_of[c] for c in more).decode("utf-8")
        except UnicodeDecodeError:
            return True
        return len(self.split(start + text)) == 1


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE of at most `vocab_size` entries (at least the 256 bytes and 4 specials)."""
    least = len(SPECIAL) + 256
    if vocab_size < least:
        raise TokenizerError(f"vocab_size must be at least {least}, got {vocab_size}", param="vocab_size")
    backend = Backend(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    model = json.loads(backend.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    return Tokenizer(model["vocab"], [(a, b) for a, b in merges])
