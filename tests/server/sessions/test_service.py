"""The whole server side without HTTP: checkpoints on disk, engine threads, sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sled_tts.model.checkpoint import save_bundle
from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.config import SledConfig
from sled_tts.model.errors import TokenizerError
from sled_tts.model.sled import Sled
from sled_tts.server.engine.request import AudioChunk, Failed, Finished, FinishReason, Float32
from sled_tts.server.errors import BadAudioError, EmptyInputError, NotFoundError, OverCapacityError, UnsupportedError
from sled_tts.server.service import Reference, ReferenceMode, SpeechService, UtteranceOptions
from sled_tts.server.sessions.utterance import LiveUtterance
from sled_tts.server.wiring import LocalSpeechService, load_service
from tests.fakes import until
from tests.model.factories import TINY
from tests.server.sessions.test_feed import TOKENIZER

TEXT = "the quick brown fox jumps over the dog. it's not the last time, and they'll do so."


def checkpoint(folder: Path, name: str, extras: dict[str, Any] | None = None, **changes: Any) -> str:
    """A small random checkpoint that stops by chance, in the published layout."""
    torch.manual_seed(11)
    config = SledConfig.from_dict(TINY | {"vocab_size": TOKENIZER.vocab_size, "max_position_embeddings": 400} | changes)
    sled = Sled(config)
    sled.init_weights()
    with torch.no_grad():
        for parameter in sled.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        sled.eos_head.weight.fill_(-1.0)
    codec = Codec(
        CodecConfig(sampling_rate=4000, dimension=10, n_filters=4, ratios=(5, 4, 2, 2), codebook_size=16, n_q=2)
    )
    save_bundle(folder / name, sled, TOKENIZER, codec, {"name": name, **(extras or {})}, dtype=torch.float32)
    return str(folder / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    checkpoint(made, "live", {"max_segment_chars": 40}, stream_n=3, stream_m=4)
    checkpoint(made, "whole")
    return made


@pytest.fixture
async def both(folder: Path) -> AsyncIterator[LocalSpeechService]:
    service = load_service([str(folder / "whole"), str(folder / "live")], slots=4)
    yield service
    await asyncio.to_thread(service.close)


async def listen(utterance: LiveUtterance) -> tuple[Float32, Finished]:
    events = [event async for event in utterance]
    ends = [e for e in events if isinstance(e, Finished | Failed)]
    assert len(ends) == 1
    assert events[-1] is ends[0]
    if isinstance(ends[0], Failed):
        raise ends[0].error
    chunks = [e for e in events if isinstance(e, AudioChunk)]
    assert [c.sequence for c in chunks] == list(range(len(chunks)))
    pcm = np.concatenate([c.pcm for c in chunks]) if chunks else np.zeros(0, np.float32)
    assert ends[0].samples == len(pcm)
    return pcm, ends[0]


async def typed(service: LocalSpeechService, options: UtteranceOptions, size: int) -> tuple[Float32, Finished]:
    utterance = service.open_stream(options)
    task = asyncio.create_task(listen(utterance))
    for at in range(0, len(TEXT), size):
        utterance.append(TEXT[at : at + size])
        await asyncio.sleep(0)
    utterance.close()
    return await task


async def test_it_is_the_service_that_routes_ask_for(both: LocalSpeechService) -> None:
    service: SpeechService = both
    assert service.alive
    assert [(m.name, m.kind) for m in service.models] == [("whole", "offline"), ("live", "streaming")]
    warm = await service.warm_up()
    assert warm.model == "live"
    assert warm.audio_s > 0
    assert warm.ttfa_s > 0
    stats = service.engine_stats()
    assert all(stats[name].frames > 0 and stats[name].in_use == 0 for name in ("whole", "live"))


async def test_deltas_of_any_size_and_the_whole_text_sound_the_same(both: LocalSpeechService) -> None:
    options = UtteranceOptions(seed=3, model="live", max_frames=400)
    spoken = await both.speak(TEXT, options)
    want, end = await listen(spoken)
    assert end.frames > 7
    for size in (1, 4, 17):
        got, again = await typed(both, options, size)
        np.testing.assert_array_equal(got, want)
        assert (again.reason, again.frames) == (end.reason, end.frames)
    other, _ = await typed(both, UtteranceOptions(seed=4, model="live", max_frames=400), 4)
    assert not np.array_equal(other[: len(want)], want[: len(other)])


async def test_each_door_prefers_its_kind_and_says_when_it_goes_by_sentence(both: LocalSpeechService) -> None:
    live = both.open_stream(UtteranceOptions(seed=1))
    assert (live.model.name, live.by_sentence) == ("live", False)
    sentences = both.open_stream(UtteranceOptions(seed=1, model="whole"))
    assert (sentences.model.name, sentences.by_sentence) == ("whole", True)
    sentences.append("the fox. the")
    task = asyncio.create_task(listen(sentences))
    await until(lambda: sum(both.engine_stats()["whole"].finished.values()) == 1)
    sentences.append(" dog.")
    sentences.close()
    _, end = await task
    assert both.engine_stats()["whole"].admitted == 2
    assert end.reason in (FinishReason.STOP, FinishReason.LENGTH)
    live.cancel()
    rest = await both.speak("the fox", UtteranceOptions(seed=1, max_frames=20))
    assert rest.model.name == "whole"
    await listen(rest)
    with pytest.raises(NotFoundError, match="nobody"):
        both.open_stream(UtteranceOptions(seed=1, model="nobody"))


async def test_a_voice_prompt_changes_the_voice_and_is_not_heard_itself(both: LocalSpeechService) -> None:
    rng = np.random.default_rng(0)
    pcm = (0.3 * np.sin(np.arange(8000) / 9.0) + 0.05 * rng.standard_normal(8000)).astype(np.float32)
    options = UtteranceOptions(seed=1, max_frames=30)
    plain, _ = await listen(await both.speak("the dog.", options))
    reference = Reference(pcm, 8000, "the quick fox", ReferenceMode.REFERENCE)
    got, end = await listen(await both.speak("the dog.", options, reference))
    assert end.frames <= 30
    assert not np.array_equal(got[: len(plain)], plain[: len(got)])
    with pytest.raises(UnsupportedError):  # trained on short texts, without prompts
        await both.speak("the dog.", UtteranceOptions(seed=1, model="live"), reference)
    long = Reference(np.tile(pcm, 6), 8000, "the quick fox", ReferenceMode.CONTINUATION)
    await listen(await both.speak("the dog.", options, long))
    with pytest.raises(BadAudioError, match="too short"):
        await both.speak("the dog.", options, Reference(pcm[:40], 8000, "x"))
    assert both.engine_stats()["whole"].in_use == 0


async def test_slots_are_held_for_the_utterance_and_free_when_its_end_is_heard(both: LocalSpeechService) -> None:
    options = UtteranceOptions(seed=1, max_frames=10)
    held = [both.open_stream(options) for _ in range(4)]
    with pytest.raises(OverCapacityError):
        both.open_stream(options)
    for utterance in held:
        utterance.append("the fox jumps over")
        utterance.close()
    await asyncio.gather(*(listen(u) for u in held))
    again = [both.open_stream(options) for _ in range(4)]
    for utterance in again:
        utterance.append("the fox")
        utterance.cancel()
        assert [type(e) async for e in utterance] == [Finished]
    await until(lambda: both.engine_stats()["live"].in_use == 0)


async def test_a_listener_that_leaves_frees_the_slot(both: LocalSpeechService) -> None:
    utterance = both.open_stream(UtteranceOptions(seed=1, max_frames=300))
    utterance.append(TEXT)
    task = asyncio.create_task(listen(utterance))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    utterance.cancel()
    await until(lambda: both.engine_stats()["live"].in_use == 0)


async def test_nothing_to_say_and_text_that_is_none(both: LocalSpeechService) -> None:
    for text in ("", " \n "):
        with pytest.raises(EmptyInputError):
            await listen(await both.speak(text, UtteranceOptions(seed=1)))
    with pytest.raises(TokenizerError):
        await both.speak("a\ud800b", UtteranceOptions(seed=1))
    utterance = both.open_stream(UtteranceOptions(seed=1))
    with pytest.raises(TokenizerError):
        utterance.append_tokens([10**6])
    utterance.cancel()
