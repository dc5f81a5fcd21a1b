"""The words of an utterance and when each is spoken, segment after segment."""

from __future__ import annotations

from dataclasses import dataclass, field

from sled_tts.server.engine.request import AudioChunk, WordTiming
from sled_tts.server.sessions.feed import Segment
from sled_tts.server.sessions.following import TextFollower
from sled_tts.server.sessions.timings import Pace, WordAligner


@dataclass
class WordTeller:
    """`text_lead_s`: the engine tells where the network looks, so much ahead of the sound; None when it does not, and
    words are found in the sound. What a segment teaches of the voice's `pace` goes on to the next."""

    sampling_rate: int
    frame_rate: float
    text_lead_s: float | None
    pace: Pace
    _aligner: WordAligner | TextFollower | None = field(default=None, init=False)
    _aligned: int = field(default=0, init=False)
    _last_start_s: float = field(default=0.0, init=False)
    _told: list[WordTiming] = field(default_factory=list, init=False)

    @property
    def follows(self) -> bool:
        """Whether the segment that is spoken needs looks."""
        return isinstance(self._aligner, TextFollower)

    def begin(self, begin_s: float) -> None:
        """The next segment starts at `begin_s` in the utterance."""
        self._aligned = 0
        if self.text_lead_s is None:
            self._aligner = WordAligner(self.sampling_rate, self.pace, begin_s, self._last_start_s)
        else:
            frame_s = 1 / self.frame_rate
            self._aligner = TextFollower(frame_s, self.text_lead_s, self.pace, begin_s, self._last_start_s)

    def hear(self, chunk: AudioChunk, segment: Segment | None) -> None:
        """Audio of the segment that has begun, if its words are wanted."""
        if self._aligner is not None:
            if segment is not None:
                self._note(self._aligner, segment)
            self._told += self._aligner.hear(chunk)

    def leave(self) -> None:
        """The segment's words, if any are left, will not be told."""
        self._aligner = None

    def end(self, segment: Segment) -> WordAligner | TextFollower | None:
        """The segment is whole, its words are told; None when they were not wanted."""
        aligner, self._aligner = self._aligner, None
        if aligner is None:
            return None
        for word in segment.words[self._aligned :]:
            token = segment.token_of(word.at)
            aligner.add(word, len(segment.ids) - 1 if token is None else token)
        self._told += aligner.finish()
        if aligner.told:
            self._last_start_s = aligner.told[-1].start_s
        return aligner

    def take(self) -> tuple[WordTiming, ...]:
        """What has been told since the last time."""
        told, self._told = self._told, []
        return tuple(told)

    def _note(self, aligner: WordAligner | TextFollower, segment: Segment) -> None:
        """What has become a whole word since the last time."""
        for word in segment.words[self._aligned :]:
            if (token := segment.token_of(word.at)) is None:
                return
            aligner.add(word, token)
            self._aligned += 1
