"""Text deltas to the token ids of consecutive segments, released as early as they are final."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sled_tts.model.incremental import IncrementalTokenizer
from sled_tts.model.tokenizer import BOS, EOS, Tokenizer
from sled_tts.server.errors import ProtocolError
from sled_tts.server.sessions.marks import ends_phrase
from sled_tts.server.sessions.splitting import SplitPlan, Splitter
from sled_tts.server.sessions.timings import Word

# English subwords are about four characters; used only to bound segments given as tokens.
_CHARS_PER_TOKEN = 4


@dataclass
class Segment:
    """One engine request's text: `ids` so far, `<s>` first and `</s>` last once it has `ended`; `taken` are sent.

    `after_prompt`: written to follow a prompt block, without `<s>`. `words` are those complete so far, in order; a
    segment that holds tokens from outside is not `worded`. `closing`: the last word, or punctuation that stands apart
    from it (`like this !`). `ends`: for each id how many bytes of text it and those before it stand for.
    """

    index: int
    after_prompt: bool = False
    words: list[Word] = field(default_factory=list)
    closing: str = ""
    worded: bool = True
    ids: list[int] = field(default_factory=list)
    ended: bool = False
    taken: int = 0
    ends: list[int] = field(default_factory=list)

    def token_of(self, byte: int) -> int | None:
        """Which of `ids` holds this byte of the text; None when it has not been released yet."""
        index = bisect_right(self.ends, byte)
        return index if index < len(self.ends) else None

    def take(self) -> tuple[list[int], bool]:
        """Ids not taken before, and whether the segment's end is among what has been taken now."""
        fresh = self.ids[self.taken :]
        self.taken = len(self.ids)
        return fresh, self.ended

    def stand_alone(self) -> None:
        """Open with `<s>` after all: there is no prompt to follow. Only before anything was taken."""
        if self.after_prompt:
            self.after_prompt = False
            self.ids.insert(0, BOS)
            self.ends.insert(0, 0)


class SegmentFeed:
    """Text and tokens in, segments out.

    `prefix` opens every segment: the transcript of a voice prompt. `after_prompt`: the transcript stands in a block of
    its own (see `Prompt.ids`); segments then have no `<s>`, and text begins with the space that parts it from there.
    `carried`: that is so from the second segment on, which follows the end of the one before.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        plan: SplitPlan,
        prefix: str = "",
        *,
        after_prompt: bool = False,
        carried: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._prefix = f"{prefix.strip()} " if prefix.strip() else ""
        self._after_prompt, self._carried = after_prompt, carried
        self._sources: deque[tuple[int, int]] = deque()
        self._partial, self._at = Word("", 0, 0), 0
        self._splitter = Splitter(plan)
        self._incremental: IncrementalTokenizer | None = None
        self._space = tokenizer.vocab.get("Ġ")
        self._fed = 0
        self._open: Segment | None = None
        # Marks before the first word of a segment: alone they are nothing to say.
        self._marks = ""
        self._count = 0
        self.closed = False
        self.segments: deque[Segment] = deque()

    @property
    def drained(self) -> bool:
        """Whether the text has ended and every segment has been handed on."""
        return self.closed and not self.segments

    @property
    def open(self) -> bool:
        """Whether a segment has begun that has not ended."""
        return self._open is not None

    @property
    def begun(self) -> int:
        """How many segments there have been."""
        return self._count

    @property
    def empty(self) -> bool:
        """Whether there has been no segment at all."""
        return self._count == 0

    def append(self, text: str, sources: Sequence[tuple[int, int]] | None = None) -> None:
        """Raises TokenizerError for text that is not Unicode, ProtocolError after `close`.

        `sources`: for each character the range of the sent text that it stands for, when that is another text.
        """
        self._still_open()
        if sources is None:
            sources = [(self._at + k, self._at + k + 1) for k in range(len(text))]
        self._at += len(text)
        self._sources.extend(source for c, source in zip(text, sources, strict=True) if not c.isspace())
        for piece in self._splitter.feed(text):
            if piece.text:
                self._say(piece.text)
            if piece.ends:
                self._end_segment()

    def append_tokens(self, ids: Iterable[int]) -> None:
        """Subwords of this vocabulary, special ones excluded. Raises TokenizerError for others."""
        self._still_open()
        checked = self._tokenizer.check_ids(ids)
        self._drop_marks()
        for token in checked:
            segment = self._segment()
            segment.worded = False
            if self._incremental is not None:
                self._release(segment, self._incremental.finish()[:-1])
                self._incremental = None
            if not segment.ids and not segment.after_prompt:
                self._release(segment, [BOS])
            self._release(segment, [token])
            if self._splitter.follow(_CHARS_PER_TOKEN):
                self._end_segment()
                self._splitter.restart()

    def flush(self) -> None:
        """End the current segment: what has been fed is spoken without waiting for more."""
        if not self.closed:
            self._end_segment()
            self._splitter.restart()

    def close(self) -> None:
        """No more text."""
        self.flush()
        self.closed = True

    def _still_open(self) -> None:
        if self.closed:
            raise ProtocolError("text was sent after its end", param="text")

    def _say(self, text: str) -> None:
        begins = self._open is None
        if begins:
            text, self._marks = self._marks + text, ""
            if not any(c.isalnum() for c in text):
                self._marks = text
                return
        segment = self._segment()
        fresh = f" {text.lstrip()}" if begins and segment.after_prompt else text
        self._release(segment, self._text_tokenizer().feed(fresh))
        self._note_words(segment, fresh)

    def _drop_marks(self) -> None:
        marks, self._marks = self._marks, ""
        for character in marks:
            if not character.isspace():
                self._sources.popleft()

    def _segment(self) -> Segment:
        if self._open is None:
            self._open = Segment(self._count, self._after_prompt or (self._carried and self._count > 0))
            self._count += 1
            self._fed = len(self._prefix.encode())
            self.segments.append(self._open)
            if self._prefix:
                self._release(self._open, self._text_tokenizer().feed(self._prefix))
        return self._open

    def _text_tokenizer(self) -> IncrementalTokenizer:
        if self._incremental is None:
            self._incremental = IncrementalTokenizer(self._tokenizer)
        return self._incremental

    def _release(self, segment: Segment, ids: Sequence[int]) -> None:
        # A tokenizer begun in mid-segment, after tokens from outside, opens with `<s>` once more.
        within = bool(segment.ids) or segment.after_prompt
        fresh = ids[1:] if within and ids[:1] == [BOS] else ids
        segment.ids += fresh
        for token in fresh:
            segment.ends.append((segment.ends[-1] if segment.ends else 0) + self._tokenizer.text_bytes(token))

    def prompt_ids(self, text: str) -> list[int]:
        """`<s>`, the text's subwords, `</s>`."""
        return self._tokenizer.encode(text)

    def _note_words(self, segment: Segment, text: str) -> None:
        """Words are runs without white space; each character takes the source that was noted for it."""
        for character in text:
            at, self._fed = self._fed, self._fed + _utf8_length(character)
            if character.isspace():
                self._end_word(segment)
                continue
            begin, end = self._sources.popleft()
            word = self._partial
            if not word.text:
                word = Word("", begin, end, at)
            self._partial = Word(word.text + character, word.begin, max(end, word.end), word.at)

    def _end_word(self, segment: Segment) -> None:
        run = self._partial
        spoken = any(c.isalnum() for c in run.text)
        if spoken:
            segment.words.append(run)
        if spoken or ends_phrase(run.text):
            segment.closing = run.text
        self._partial = Word("", 0, 0)

    def _end_segment(self) -> None:
        self._drop_marks()
        segment, self._open = self._open, None
        if segment is None:
            return
        self._end_word(segment)
        rest = self._incremental.finish() if self._incremental is not None else [EOS]
        self._incremental = None
        # White space that ended the text was handed on before anyone could know that it would.
        if len(rest) > 1 and rest[-2] == self._space:
            del rest[-2]
        self._release(segment, rest)
        segment.ended = True


def _utf8_length(character: str) -> int:
    """Bytes; a surrogate pair that came as two characters counts where it begins."""
    if "\ud800" <= character <= "\udfff":
        return 4 if character <= "\udbff" else 0
    return len(character.encode())
