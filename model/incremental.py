"""Tokens of a text while it arrives: a subword is released as soon as no continuation of the text can change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sled_tts.model.errors import TokenizerError
from sled_tts.model.tokenizer import BOS, EOS, Tokenizer, common_prefix, well_formed

_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
# Longer unfinished pre-tokens are cut at a final boundary, so that a text without spaces stays linear.
_CUT_AFTER = 64


@dataclass
class IncrementalTokenizer:
    """Feed deltas, get ids: `<s>` first, `</s>` from `finish`, in all the ids of the whole text."""

    tokenizer: Tokenizer
    _pending: str = ""
    _context: str = ""
    _released: int = 0
    _surrogate: str = ""
    _started: bool = field(default=False)

    def feed(self, delta: str) -> list[int]:
        """Ids that are final now. A character may be cut between its two surrogates."""
        text = self._surrogate + delta
        self._surrogate = text[-1:] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        text = text[: len(text) - len(self._surrogate)]
        # A pair of surrogates that arrived apart is one character.
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        self._pending += well_formed(joined)
        return self._begin() + self._advance()

    def finish(self) -> list[int]:
        """The rest, and `</s>`. Raises TokenizerError for half a character."""
        if self._surrogate:
            raise TokenizerError("text ends in half a surrogate pair", param="text")
        out = self._begin()
        for piece in self._pieces():
            out += self._emit(self._whole(piece))
        self._pending, self._context = "", ""
        return [*out, EOS]

    def _begin(self) -> list[int]:
        if self._started:
            return []
        self._started = True
        return [BOS]

    def _pieces(self) -> list[str]:
        """Pre-tokens of what is pending; the context character before it only steers the split."""
        pieces = self.tokenizer.split(self._context + self._pending)
        if self._context and pieces:
            pieces[0] = pieces[0][len(self._context) :]
        return pieces

    def _emit(self, tokens: Sequence[str]) -> list[int]:
        """Ids of a finished pre-token's tokens that were not released before."""
        fresh = tokens[self._released :]
        # White space that was one run may have become two pre-tokens.
        self._released = max(0, self._released - len(tokens))
        return [self.tokenizer.vocab[token] for token in fresh]

    def _advance(self) -> list[int]:
        pieces = self._pieces()
        held = self._held(pieces)
        out: list[int] = []
        for piece in pieces[: len(pieces) - held]:
            out += self._emit(self._whole(piece))
            self._pending, self._context = self._pending[len(piece) :], ""
        if held == 1:
            out += self._release_inside(pieces[-1])
        return out

    def _held(self, pieces: Sequence[str]) -> int:
        """How many pre-tokens at the end may still change."""
        if not pieces:
            return 0
        opens_fresh = len(pieces) > 1 or not self._context
        if pieces[-1] in _CONTRACTIONS and opens_fresh:
            return 0
        if len(pieces) > 1 and pieces[-2] == "'" and any(c[1:].startswith(pieces[-1]) for c in _CONTRACTIONS):
            return 2 if len(pieces) > 2 or not self._context else 1
        return 1

    def _release_inside(self, piece: str) -> list[int]:
        """Release what is final inside the last, unfinished pre-token."""
        if piece == "'" and not self._context:
            return []
        final = self._final_space(piece) if piece.isspace() else self._final(piece)
        out = [self.tokenizer.vocab[token] for token in final[self._released :]]
        self._released = max(self._released, len(final))
        if len(piece) > _CUT_AFTER:
            self._cut(piece, final)
        return out

    def _whole(self, piece: str) -> list[str]:
        return self.tokenizer.merge(self.tokenizer.to_byte_alphabet(piece))

    def _final(self, piece: str) -> list[str]:
        return self.tokenizer.final_tokens(piece, self._context)

    def _final_space(self, run: str) -> list[str]:
        """White space at the end: the run may go on, or its last character may leave it, alone or (a space)
        as the head of the next word."""
        before = self._whole(run[:-1]) if len(run) > 1 else []
        last = self._final(run[-1]) if run[-1] == " " else self._whole(run[-1])
        return common_prefix(self._final(run), [*before, *last])

    def _cut(self, piece: str, final: Sequence[str]) -> None:
        """Forget released text up to the last final boundary that is also a character boundary."""
        ends, total = set(), 0
        for character in piece:
            total += len(character.encode("utf-8"))
            ends.add(total)
        position, kept, cut_tokens, cut_bytes = 0, 0, 0, 0
        for count, token in enumerate(final, 1):
            position += len(token)
            if position in ends:
                cut_tokens, cut_bytes = count, position
        while kept < len(piece) and len(piece[:kept].encode("utf-8")) < cut_bytes:
            kept += 1
        if cut_tokens:
            self._context = piece[kept - 1]
            self._pending = self._pending[kept:]
            self._released -= cut_tokens
