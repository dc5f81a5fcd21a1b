"""One utterance without I/O: text in, engine requests out; engine events in, merged events out.

A long text is several engine requests on one slot, one after another. Their audio is one stream: sequence numbers,
lead and totals run through, and there is exactly one terminal event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from sled_tts.server.engine.request import (
    AudioChunk,
    Event,
    Failed,
    Finished,
    FinishReason,
    Prompt,
    SynthesisRequest,
    TextFlushed,
    TextSkipped,
    TextStarved,
    WordsSpoken,
)
from sled_tts.server.engine.streams import Playback
from sled_tts.server.errors import EmptyInputError
from sled_tts.server.sessions.carry import carried
from sled_tts.server.sessions.feed import Segment, SegmentFeed
from sled_tts.server.sessions.telling import WordTeller
from sled_tts.server.sessions.timings import Pace
from sled_tts.server.sessions.voice import Voice

_SEED_STEP = 0x9E3779B97F4A7C15


@dataclass
class UtteranceMachine:
    """`clock` in seconds, for the lead of the merged stream."""

    voice: Voice
    feed: SegmentFeed
    clock: Callable[[], float]
    active: Segment | None = field(default=None, init=False)
    terminal: Finished | Failed | None = field(default=None, init=False)
    _playback: Playback = field(init=False)
    _sequence: int = field(default=0, init=False)
    _frames: int = field(default=0, init=False)
    _samples: int = field(default=0, init=False)
    _busy_s: float = field(default=0.0, init=False)
    _ttfa_s: float | None = field(default=None, init=False)
    _cut: bool = field(default=False, init=False)
    _spoken: int = field(default=0, init=False)
    _flushes: deque[int] = field(default_factory=deque, init=False)
    _answered: int = field(default=0, init=False)
    _carry: Prompt | None = field(default=None, init=False)
    _words: WordTeller = field(init=False)
    _pause: AudioChunk | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        voice = self.voice
        self._playback = Playback(voice.frame_rate)
        self._words = WordTeller(voice.sampling_rate, voice.frame_rate, voice.text_lead_s, Pace(voice.unit_s))

    def next_request(self) -> SynthesisRequest | None:
        """The next segment's request, when none is active and enough of its text is there."""
        if self.active is not None or self.terminal is not None or not self.feed.segments:
            return None
        segment = self.feed.segments[0]
        if not segment.ended and (self.voice.whole_segments or not segment.ids):
            return None
        self.feed.segments.popleft()
        self.active = segment
        prompt = self._carry or self.voice.prompt
        if prompt is None:
            segment.stand_alone()
        self._begin_segment(segment)
        ids = None
        if segment.ended:
            taken, _ = segment.take()
            ids = tuple(taken)
        voice = self.voice
        return SynthesisRequest(
            request_id=f"{voice.utterance_id}.{segment.index}",
            mode=voice.mode,
            seed=(voice.seed + segment.index * _SEED_STEP) % 2**63,
            cfg_scale=voice.cfg_scale,
            max_frames=self._frames_left(),
            prompt=prompt,
            dynamics=voice.dynamics,
            register=voice.register,
            token_ids=ids,
            n=voice.n,
            m=voice.m,
            keep_latents=voice.carry_frames is not None,
            follow_text=self._words.follows,
        )

    def fresh_tokens(self) -> tuple[list[int], bool] | None:
        """Ids to push to the active request and whether they end it; None when there is nothing to push."""
        segment = self.active
        if segment is None or segment.taken == len(segment.ids):
            return None
        return segment.take()

    def receive(self, event: Event) -> Event | None:
        """An event of the active request as the listener gets it; None when it is not for them."""
        if isinstance(event, AudioChunk):
            self._words.hear(event, self.active)
            self._frames += event.frames
            return self._deliver(event, event.frames)
        if isinstance(event, TextStarved):
            return TextStarved(self._frames)
        if isinstance(event, TextFlushed | WordsSpoken | TextSkipped):
            return event
        segment, self.active = self.active, None
        if isinstance(event, Failed):
            self.terminal = event
            return event
        if segment is not None:
            self._end_segment(segment, event)
            self._pause_after(segment, event)
        self._add(event)
        self._spoken += 1
        if event.reason is FinishReason.CANCELLED:
            return self.cancel()
        if (settled := self.settle()) is not None:
            return settled
        if self._frames_left() == 0:
            return self._finish(FinishReason.LENGTH)
        # Between segments no request waits, only the listener does.
        return None if self.feed.closed or self.feed.segments else TextStarved(self._frames)

    def words(self) -> WordsSpoken | None:
        """Words whose audio came last, or comes next; None when there are none or nobody asked."""
        told = self._words.take()
        return WordsSpoken(told) if told and self.voice.timings else None

    def pause(self) -> AudioChunk | None:
        """Silence after the segment that has just ended, which holds no latents; before whatever else comes next."""
        pause, self._pause = self._pause, None
        return pause

    def flush(self) -> None:
        """End the open segment; `flushed` says when it and all before it have been spoken."""
        self.feed.flush()
        self._flushes.append(self.feed.begun)

    def flushed(self) -> list[TextFlushed]:
        """Flushes that have been spoken since the last call; they come before the terminal event, if that is next."""
        if isinstance(self.terminal, Failed) or (self.terminal and self.terminal.reason is FinishReason.CANCELLED):
            return []
        answers = []
        while self._flushes and self._flushes[0] <= self._spoken:
            self._flushes.popleft()
            self._answered += 1
            answers.append(TextFlushed(self._answered))
        return answers

    def settle(self) -> Event | None:
        """The terminal event, once all the text has been spoken."""
        if self.terminal is not None or self.active is not None or not self.feed.drained:
            return None
        if self._sequence == 0 and self.feed.empty:
            self.terminal = Failed(EmptyInputError("there is nothing to say", param="text"))
            return self.terminal
        return self._finish(FinishReason.LENGTH if self._cut else FinishReason.STOP)

    def cancel(self) -> Event | None:
        """The terminal event of an utterance that was stopped; None when it had ended already."""
        return None if self.terminal is not None else self._finish(FinishReason.CANCELLED)

    def fail(self, error: Exception) -> Event | None:
        """The terminal event of an utterance that cannot go on; None when it had ended already."""
        if self.terminal is not None:
            return None
        self.terminal = Failed(error)
        return self.terminal

    def _begin_segment(self, segment: Segment) -> None:
        voice = self.voice
        self._words.leave()
        if segment.worded and (voice.timings or voice.carry_frames is not None):
            self._words.begin(self._samples / voice.sampling_rate)

    def _end_segment(self, segment: Segment, event: Finished) -> None:
        """Tell the words that are left; keep the segment's end, if it is whole, for the next one to go on from."""
        if event.reason is FinishReason.CANCELLED:
            self._words.leave()
            return
        aligner, limit = self._words.end(segment), self.voice.carry_frames
        if aligner is None or limit is None or event.latents is None:
            return
        if event.reason is not FinishReason.STOP or not segment.worded:
            return
        end = carried(aligner.told, event.latents, self.voice.frame_rate, aligner.begin_s, limit, self.feed.prompt_ids)
        self._carry = end or self._carry

    def _pause_after(self, segment: Segment, event: Finished) -> None:
        voice = self.voice
        frames = round(voice.pauses.after(segment) * voice.frame_rate)
        if (left := self._frames_left()) is not None:
            frames = min(frames, left)
        if frames and event.samples and event.reason is FinishReason.STOP:
            silence = np.zeros(round(frames * voice.sampling_rate / voice.frame_rate), np.float32)
            self._pause = self._deliver(AudioChunk(0, silence, 0, 0.0), frames)

    def _frames_left(self) -> int | None:
        """Before the utterance is as long as it may be, in frames of speech and of silence; None without a limit."""
        limit = self.voice.max_frames
        return None if limit is None else max(0, limit - self._playback.delivered)

    def _deliver(self, chunk: AudioChunk, frames: int) -> AudioChunk:
        """The utterance's next chunk, which lasts as long as so many frames."""
        lead = self._playback.deliver(self.clock(), frames)
        self._sequence += 1
        self._samples += chunk.pcm.size
        return replace(chunk, sequence=self._sequence - 1, lead_s=lead, looks=())

    def _add(self, event: Finished) -> None:
        self._cut = self._cut or event.reason is FinishReason.LENGTH
        if self._ttfa_s is None:
            self._ttfa_s = event.ttfa_s
        if event.rtf is not None:
            self._busy_s += event.rtf * event.samples / self.voice.sampling_rate

    def _finish(self, reason: FinishReason) -> Finished:
        rtf = self._busy_s * self.voice.sampling_rate / self._samples if self._samples else None
        done = Finished(reason, self._frames, self._samples, self._ttfa_s, rtf)
        self.terminal = done
        return done
