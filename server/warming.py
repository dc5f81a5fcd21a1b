"""The first synthesis of a checkpoint, so that whatever is slow only once is over before anybody waits for it."""

from __future__ import annotations

from sled_tts.server.engine.request import AudioChunk, Failed, Finished, SynthesisRequest
from sled_tts.server.errors import EngineError
from sled_tts.server.service import WarmUp
from sled_tts.server.sessions.feed import SegmentFeed
from sled_tts.server.sessions.splitting import SplitPlan
from sled_tts.server.voicebox import Voicebox

_TEXT = "The quick brown fox jumps over the lazy dog."


def warm_up(box: Voicebox) -> WarmUp:
    """Blocking: a real synthesis with the default voice. Raises what it fails with."""
    prompt, prefix = box.prompt(box.speaker.own[0][1] if box.speaker.own else None)
    feed = SegmentFeed(
        box.bundle.tokenizer, SplitPlan.bounded_by(1000), prefix, after_prompt=bool(prompt and prompt.ids)
    )
    feed.append(_TEXT)
    feed.close()
    ids = tuple(feed.segments[0].ids)
    request = SynthesisRequest("warm-up", box.mode, seed=0, token_ids=ids, prompt=prompt)
    samples = 0
    for event in box.bridge.run(request):
        if isinstance(event, AudioChunk):
            samples += event.pcm.size
        elif isinstance(event, Failed):
            raise event.error
        elif isinstance(event, Finished):
            if event.ttfa_s is None or event.rtf is None:
                break
            _enter_voices(box, ids)
            return WarmUp(box.model.name, event.ttfa_s, event.rtf, samples / box.model.sampling_rate)
    raise EngineError(f"the warm-up synthesis of {box.model.name} gave no audio")


def _enter_voices(box: Voicebox, ids: tuple[int, ...]) -> None:
    """Read and decode the other built-in voices' prompt blocks, which are kept from then on."""
    for _, spoken in box.speaker.own[1:]:
        prompt, _ = box.prompt(spoken)
        if prompt is not None and prompt.ids:
            request = SynthesisRequest("warm-up", box.mode, seed=0, token_ids=ids, prompt=prompt, max_frames=1)
            for event in box.bridge.run(request):
                if isinstance(event, Failed):
                    raise event.error
