"""Melody beside the codec: whatever is held back comes out at the end, and streams without one know nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from sled_tts.model.melody.expanding import Expansion
from sled_tts.model.melody.register import Register
from sled_tts.server.engine.device_runner import DeviceRunner
from sled_tts.server.engine.melodies import Melodies
from sled_tts.server.engine.request import AudioChunk, Finished, Float32, Mode, Prompt, SynthesisRequest
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.work import LAST_LATENT, DecodeWork, RowWork
from sled_tts.server.wiring import load_service
from tests.fakes import FakeClock, FakeRunner, admit, fake_info, make_engine, melody, run_dry, tiny_codec, tiny_runner
from tests.model.factories import TINY, tiny, token_ids

REGISTER = Register(110.0, 0.2)


@dataclass
class Recording(FakeRunner):
    """Remembers what it was asked to decode."""

    asked: list[DecodeWork] = field(default_factory=list)

    def decode(self, work: Sequence[DecodeWork]) -> list[Float32]:
        self.asked += work
        return super().decode(work)


@pytest.mark.parametrize("register", [None, REGISTER])
@pytest.mark.parametrize("frames", range(1, 26))
def test_the_end_is_told_once_even_when_nothing_is_left_to_decode(frames: int, register: Register | None) -> None:
    runner = Recording(fake_info(), FakeClock(), stops={0: frames})
    engine = make_engine(runner, runner.clock)
    ids = tuple(token_ids(3, 0))
    _, heard = admit(engine, SynthesisRequest("r", Mode.STREAMING, 0, token_ids=ids, register=register))
    run_dry(engine)
    assert isinstance(heard.end, Finished)
    said = heard.end.frames
    assert sum(work.count for work in runner.asked) == said >= frames
    finals = [work for work in runner.asked if work.final]
    assert len(finals) == (1 if register is not None else min(1, len(finals)))
    if register is not None:
        assert runner.asked[-1] is finals[0]


def test_a_stream_says_all_its_frames_with_a_melody_and_its_words_stay_where_they_were() -> None:
    runner, _, _ = tiny_runner(slots=2, stop_bias=2.0, stream_n=3, stream_m=4)
    lengths = []
    for register in (None, REGISTER):
        engine = make_engine(runner, FakeClock())
        request = SynthesisRequest("r", Mode.STREAMING, 4, max_frames=23, token_ids=tuple(token_ids(9, 0)))
        object.__setattr__(request, "register", register)
        _, heard = admit(engine, request)
        run_dry(engine)
        assert isinstance(heard.end, Finished)
        assert heard.end.samples == len(heard.pcm) == heard.end.frames * runner.info.hop
        lengths.append(len(heard.pcm))
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize("kind", [SledRunner, DeviceRunner])
@pytest.mark.parametrize(("window", "behind"), [(None, 2), (80, 3)])
def test_the_first_decode_after_a_prompt_is_heard(
    kind: type[SledRunner | DeviceRunner], window: int | None, behind: int
) -> None:
    """And is no longer than that takes."""
    sled, _ = tiny(seed=3, stream_n=3, stream_m=4)
    sled.prepare_for_inference()
    width = TINY["vae_embed_dim"]
    quiet = None if window is None else Expansion(np.zeros(window // 2 + 1, np.float32))
    sung = replace(melody(), expansion=quiet)
    runner = kind(sled, tiny_codec(), torch.zeros(width), torch.ones(width), slots=2, melody=sung)
    assert sung.behind(runner.info.sampling_rate, runner.info.hop) == {behind}
    prompt = Prompt(np.zeros((8, width), np.float32), tuple(token_ids(4, 1)))
    ids = tuple(token_ids(9, 0))
    engine = make_engine(runner, FakeClock())
    request = SynthesisRequest("r", Mode.STREAMING, 4, max_frames=12, token_ids=ids, prompt=prompt, register=REGISTER)
    _, heard = admit(engine, request)
    run_dry(engine)
    chunks = [event for event in heard.events if isinstance(event, AudioChunk)]
    assert chunks[0].frames == 1
    assert [event.frames for event in chunks[1:]][:1] == [behind + 1]
    assert isinstance(heard.end, Finished)
    assert sum(chunk.frames for chunk in chunks) == heard.end.frames


@pytest.mark.parametrize("kind", [SledRunner, DeviceRunner])
def test_what_is_held_back_comes_when_the_end_is_told_without_frames(kind: type[SledRunner | DeviceRunner]) -> None:
    sled, _ = tiny(seed=3, stream_n=3, stream_m=4)
    sled.prepare_for_inference()
    width = TINY["vae_embed_dim"]
    runner = kind(sled, tiny_codec(), torch.zeros(width), torch.ones(width), slots=2, melody=melody())
    ids = tuple(token_ids(4, 0))
    for slot in (0, 1):
        runner.open(slot, SynthesisRequest("r", Mode.STREAMING, 6, token_ids=ids, register=REGISTER))
        runner.step([RowWork(slot, ids, (2,))])
        for _ in range(10):
            runner.step([RowWork(slot, (LAST_LATENT,), (LAST_LATENT,))])
    pieces = [runner.decode([DecodeWork(0, *span)])[0] for span in ((0, 7, False), (7, 4, False), (11, 0, True))]
    whole = [runner.decode([DecodeWork(1, *span)])[0] for span in ((0, 7, False), (7, 4, True))]
    assert [len(piece) // runner.info.hop for piece in pieces] == [5, 4, 2]
    assert np.array_equal(np.concatenate(pieces), np.concatenate(whole))
    plain = kind(sled, tiny_codec(), torch.zeros(width), torch.ones(width), slots=2)
    plain.open(0, SynthesisRequest("r", Mode.STREAMING, 6, token_ids=ids))
    assert plain.decode([DecodeWork(0, 0, 0, True)])[0].size == 0


def test_only_requests_with_a_register_have_a_melody() -> None:
    info = fake_info(sampling_rate=4000, hop=80)
    plain = SynthesisRequest("r", Mode.STREAMING, 0, token_ids=(0, 5, 2))
    sung = SynthesisRequest("r", Mode.STREAMING, 0, token_ids=(0, 5, 2), register=REGISTER)
    live = Melodies(melody())
    live.open(0, sung, info)
    assert live.of(0) is not None
    live.open(0, plain, info)
    assert live.of(0) is None
    live.open(1, sung, info)
    live.close(1)
    assert live.of(1) is None
    none = Melodies(None)
    none.open(0, sung, info)
    assert none.of(0) is None


def test_a_prompt_that_opens_the_text_passes_as_it_is_decoded() -> None:
    info = fake_info(sampling_rate=4000, hop=80)
    latents = np.random.default_rng(0).standard_normal((14, TINY["vae_embed_dim"])).astype(np.float32)
    wave = np.cos(2 * np.pi * 100.0 * np.arange(14 * 80) / 4000).astype(np.float32)
    for ids, untouched in (((), 4), ((0, 5), 0)):
        prompt = Prompt(np.ones((4, TINY["vae_embed_dim"]), np.float32), ids)
        live = Melodies(melody())
        live.open(0, SynthesisRequest("r", Mode.STREAMING, 0, prompt=prompt, register=REGISTER), info)
        melodist = live.of(0)
        assert melodist is not None
        heard = melodist.push(wave, latents, final=True)
        assert np.array_equal(heard[: 80 * untouched], wave[: 80 * untouched])
        assert not np.array_equal(heard[80 * 4 :], wave[80 * 4 :])
        assert len(heard) == len(wave)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_server_may_be_told_to_speak_at_one_pitch(wanted: bool) -> None:
    service = load_service(["built-in"], slots=1, threads=1, device="cpu", melody=wanted)
    try:
        (box,) = service._boxes
        assert (box.bundle.extras.melody is not None) is wanted
    finally:
        service.close()
