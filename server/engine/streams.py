"""One live utterance in the engine: what it reads next, what it has said, when its listener runs dry."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from sled_tts.model.interleave import Action, TurnCursor
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.outlet import Outlet
from sled_tts.server.engine.request import FinishReason, Float32, Mode, Prompt, SynthesisRequest
from sled_tts.server.engine.scheduler import Candidate
from sled_tts.server.engine.work import LAST_LATENT, RowOutcome, RowWork, RunnerInfo, prompt_column
from sled_tts.server.errors import EmptyInputError


@dataclass(frozen=True)
class Sampling:
    """A frame that a device is at work on, and what its outcome will mean: whether the last text had been read, and
    whether no frame may follow."""

    after_text: bool
    is_last: bool


class Readiness(Enum):
    """Whether a stream can step: yes, not before more text, or never again (no positions left)."""

    READY = auto()
    STARVED = auto()
    EXHAUSTED = auto()


@dataclass
class Playback:
    """The clock of an imagined listener who starts with the first chunk and never buffers ahead of it."""

    frame_rate: float
    started_at: float | None = None
    delivered: int = 0
    underruns: int = 0

    def lead_s(self, now: float, pending: int = 0) -> float | None:
        """Seconds of audio ahead of the listener, `pending` undelivered frames included; None before first audio."""
        if self.started_at is None:
            return None
        return self.started_at + (self.delivered + pending) / self.frame_rate - now

    def deliver(self, now: float, frames: int) -> float:
        """Count a chunk; returns the lead after it. A listener who ran dry resumes now."""
        if self.started_at is None:
            self.started_at = now
        elif (behind := now - self.started_at - self.delivered / self.frame_rate) > 0:
            self.underruns += 1
            self.started_at += behind
        self.delivered += frames
        return self.started_at + self.delivered / self.frame_rate - now


@dataclass
class Stream:
    """All that the engine knows about one utterance; it owns slot `slot` while it is listed.

    `conditional`, `unconditional` hold the columns of the next step; `frames` counts spoken new frames, `decoded`
    frames that have been given to the codec (the prompt's included), `positions` the conditional row's filled cache.
    `under_way` are frames that were launched and whose outcome is not known; `decoding` counts decodes not yet
    delivered, and their frames; `ending` is set once nothing more will be said, `over` once the stream has ended.
    `looks` are those of frames not delivered yet, when the request follows its text. `emptied`: the codec has been told
    that nothing more will come. `behind`: frames by which its sound comes later than it is decoded.
    """

    request: SynthesisRequest
    slot: int
    arrival: int
    info: RunnerInfo
    budget: FrameBudget
    outlet: Outlet
    leased: bool = False
    cursor: TurnCursor = field(init=False)
    playback: Playback = field(init=False)
    tokens: list[int] = field(default_factory=list)
    conditional: list[int] = field(default_factory=list)
    unconditional: list[int] = field(default_factory=list)
    sampling: bool = False
    forced: int = 0
    frames: int = 0
    decoded: int = 0
    positions: int = 0
    sequence: int = 0
    samples: int = 0
    passed_over: int = 0
    starving: bool = False
    first_token_at: float | None = None
    ttfa_s: float | None = None
    busy_s: float = 0.0
    ready_since: float | None = None
    blocked_since: float | None = None
    under_way: deque[Sampling] = field(default_factory=deque)
    decoding: int = 0
    decoding_frames: int = 0
    ending: FinishReason | None = None
    over: bool = False
    looks: list[Float32] = field(default_factory=list, repr=False)
    emptied: bool = False
    behind: int = 0

    def __post_init__(self) -> None:
        request = self.request
        offline = request.mode is Mode.OFFLINE
        n, m = (None, None) if offline else (request.n or self.info.n, request.m or self.info.m)
        self.cursor = TurnCursor(n, m)
        self.playback = Playback(self.info.frame_rate)
        # CFG: the second row sees the end of the text and the speech, never the text (sled.md, "Inference").
        self.unconditional = [self.info.eos_id] if request.guided else []
        if request.prompt is not None and request.prompt.ids:
            self._open_with(request.prompt)

    def _open_with(self, prompt: Prompt) -> None:
        """Begin after a prompt block, which the runner has put into the slot when it was opened.

        The guidance row has yet to read the last frame: without new speech it would have nothing to read.
        """
        self.positions = len(prompt.ids) + prompt.frames
        self.forced = self.decoded = prompt.frames
        self.unconditional = [prompt_column(prompt.frames - 1)] if self.request.guided else []

    @property
    def primed(self) -> bool:
        """Whether cache and decoder hold the prompt from the beginning."""
        return self.request.prompt is not None and bool(self.request.prompt.ids)

    @property
    def prompt_frames(self) -> int:
        return self.request.prompt.frames if self.request.prompt else 0

    @property
    def speech(self) -> int:
        """Frames on the speech axis: the prompt's, then the spoken ones."""
        return self.prompt_frames + self.frames

    def push(self, ids: Sequence[int], final: bool, now: float) -> None:
        """More tokens; `final` ends the text. Raises EmptyInputError when the text ends without any."""
        if self.cursor.text_ended:
            return
        if ids and self.first_token_at is None:
            self.first_token_at = now
        self.tokens.extend(ids)
        self.cursor.feed(len(ids))
        if final:
            if not self.tokens:
                raise EmptyInputError("the text ended without a single token", param="text")
            self.cursor.end_text()

    def advance(self) -> Readiness:
        """Collect columns up to the next latent to sample. Prompt frames stand in for the first ones."""
        while not self.sampling:
            action = self.cursor.next_action()
            if action is Action.NEED_TEXT:
                return Readiness.STARVED
            if action is Action.READ:
                span = self.cursor.read()
                self.conditional.extend(self.tokens[span.start : span.stop])
            elif self.forced < self.prompt_frames:
                self._feed(prompt_column(self.forced))
                self.forced += 1
                self.cursor.wrote()
            else:
                self.sampling = True
        if self.positions + len(self.conditional) > self.info.positions:
            return Readiness.EXHAUSTED
        return Readiness.READY

    def _feed(self, column: int) -> None:
        self.conditional.append(column)
        if self.request.guided:
            self.unconditional.append(column)

    def candidate(self, now: float) -> Candidate:
        """What the scheduler has to know."""
        undelivered = self.speech - max(self.decoded, self.prompt_frames) + self.decoding_frames
        return Candidate(self.slot, self.arrival, self.playback.lead_s(now, undelivered), self.passed_over)

    def unread_for(self, now: float) -> float:
        """Called while the reader leaves no room: seconds since it began to."""
        self.ready_since = None
        if self.blocked_since is None:
            self.blocked_since = now
        return now - self.blocked_since

    def work(self) -> RowWork:
        return RowWork(self.slot, tuple(self.conditional), tuple(self.unconditional))

    def launched(self) -> None:
        """A step for this stream is under way; the next one goes on as if it did not end in it."""
        self.positions += len(self.conditional)
        self.cursor.wrote()
        self.sampling = False
        self.conditional.clear()
        self.unconditional.clear()
        self._feed(LAST_LATENT)
        is_last = self.frames + len(self.under_way) + 1 >= self._frame_limit()
        self.under_way.append(Sampling(self.cursor.final_turn, is_last))

    @property
    def complete(self) -> bool:
        """Whether no step may follow those that are under way."""
        return self.ending is not None or bool(self.under_way and self.under_way[-1].is_last)

    def sampled(self, outcome: RowOutcome) -> FinishReason | None:
        """Account for the latent launched first. A stop counts only if the last token had been read: it never drops
        text."""
        frame = self.under_way.popleft()
        if outcome is RowOutcome.STOP and frame.after_text:
            return FinishReason.STOP
        self.frames += 1
        return FinishReason.LENGTH if frame.is_last else None

    def noticed(self, look: Float32 | None) -> None:
        """Where the step that gave the last frame looked."""
        if look is not None:
            self.looks.append(look)

    def _frame_limit(self) -> float:
        """The request's own bound, or one that follows the text once all of it has been read."""
        if self.request.max_frames is not None:
            return self.request.max_frames
        return self.budget.frames(len(self.tokens)) if self.cursor.final_turn else float("inf")
