"""Test sets, the paper's two prompt settings, and what judges make of them."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.judges import SPEAKER_JUDGES, TRANSCRIBERS, Wave, choose
from sled_tts.model.evaluation.prompting import (
    Setting,
    prompt_latents,
    prompt_recordings,
    prompted_lines,
    references,
    through_codec,
)
from sled_tts.model.evaluation.quality_tables import Protocol, figure_3, table_1, table_2
from sled_tts.model.evaluation.scoring import Clip, Panel
from sled_tts.model.evaluation.utterances import Utterance, read_utterances, within
from sled_tts.model.speaking import Line, speak_lines
from tests.model.evaluation.small import small_bundle

RATE = 16_000


def _wave(seconds: float, seed: int) -> Wave:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def _librispeech(folder: Path) -> Path:
    for speaker, lengths in (("11", (0.6, 0.5, 0.7)), ("12", (0.4, 0.5))):
        chapter = folder / speaker / "1"
        chapter.mkdir(parents=True)
        lines = []
        for index, seconds in enumerate(lengths):
            name = f"{speaker}-1-{index:04d}"
            soundfile.write(chapter / f"{name}.flac", _wave(seconds, index), RATE)
            lines.append(f"{name} SAID {speaker} {index}\n")
        (chapter / f"{speaker}-1.trans.txt").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    return read_utterances(_librispeech(tmp_path / "test-clean"))


def test_a_folder_of_librispeech_is_read_in_order(utterances: list[Utterance]) -> None:
    assert [one.id for one in utterances] == ["11-1-0000", "11-1-0001", "11-1-0002", "12-1-0000", "12-1-0001"]
    assert utterances[1].text == "SAID 11 1"
    assert utterances[1].speaker == "11"
    assert utterances[1].duration_s == pytest.approx(0.5)
    assert len(utterances[1].wave(8000)) == 4000
    assert [one.id for one in within(utterances, 0.45, 0.6)] == ["11-1-0001", "12-1-0001"]
    with pytest.raises(ModelError, match="none of 5"):
        within(utterances, 4.0, 10.0)


def test_manifests_with_punctuation_and_their_faults(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "7-1-0001.flac", _wave(0.5, 0), RATE)
    manifest = tmp_path / "test-clean.json"
    good = {"audio_filepath": "7-1-0001.flac", "text": "Well, said!", "duration": 0.5}
    manifest.write_text(json.dumps(good) + "\n", encoding="utf-8")
    (one,) = read_utterances(manifest)
    assert (one.text, one.speaker, len(one.wave(RATE))) == ("Well, said!", "7", 8000)
    for bad, problem in (
        ({**good, "audio_filepath": "gone.flac"}, "missing"),
        ({"audio_filepath": "7-1-0001.flac", "text": "x"}, "duration"),
    ):
        manifest.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n", encoding="utf-8")
        with pytest.raises(ModelError, match=f"line 2.*{problem}"):
            read_utterances(manifest)
    with pytest.raises(ModelError, match="no test set"):
        read_utterances(tmp_path / "nothing")


def test_each_utterance_goes_on_from_the_one_before_it_and_the_first_from_the_last(utterances: list[Utterance]) -> None:
    before = [None if one is None else one.id for one in references(utterances)]
    assert before == ["11-1-0002", "11-1-0000", "11-1-0001", "12-1-0001", "12-1-0000"]
    assert references(utterances[:1]) == [None]
    with pytest.raises(ModelError, match="no reference"):
        prompt_recordings(utterances[:1], Setting.REFERENCE, RATE)


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("setting", list(Setting))
def test_lines_hold_what_the_setting_says(utterances: list[Utterance], setting: Setting, blocks: bool) -> None:
    bundle = small_bundle(blocks=blocks)
    rate, hop = bundle.codec.config.sampling_rate, bundle.codec.config.hop_length
    prompts = prompt_recordings(utterances, setting, rate, prefix_s=0.1)
    line = prompted_lines(bundle, utterances, setting, prompts)[1]
    assert line.text == "SAID 11 1"
    if setting is Setting.NONE:
        assert (line.prompt, line.told) == (None, None)
        return
    recording = utterances[1].wave(rate)[: rate // 10] if setting is Setting.PREFIX else utterances[0].wave(rate)
    whole = torch.from_numpy(recording[: len(recording) // hop * hop])
    assert line.prompt is not None
    torch.testing.assert_close(line.prompt, bundle.normalise(bundle.codec.encode(whole[None, None])[0]))
    assert line.told == ("SAID 11 0" if setting is Setting.REFERENCE else None)


def test_the_codec_is_asked_with_or_without_its_quantiser_as_the_checkpoint_knows_it() -> None:
    wave = (0.1 * np.random.default_rng(1).standard_normal(4000)).astype(np.float32)
    given = torch.from_numpy(wave)[None, None]
    codes = small_bundle()
    quantised = codes.codec.decode(codes.codec.encode(given))[0].numpy()
    np.testing.assert_array_equal(through_codec(codes, wave), quantised[:4000])
    continuous = replace(codes, extras=replace(codes.extras, quantised=False))
    exact = continuous.codec.decode(continuous.codec.encoder(given).transpose(1, 2))[0].numpy()
    np.testing.assert_allclose(through_codec(continuous, wave), exact[:4000], atol=1e-6)


def test_what_is_spoken_after_a_prompt_is_decoded_with_it_and_cut() -> None:
    bundle = small_bundle()
    hop = bundle.codec.config.hop_length
    prompt = torch.randn(9, bundle.codec.config.dimension)
    (said,) = speak_lines(bundle, [Line("abc", prompt, "xyz")], cfg_scale=2.0, seed=4)
    assert len(said.latents) > 0
    together = bundle.denormalise(torch.cat([prompt, said.latents]))
    np.testing.assert_array_equal(said.whole, bundle.codec.decode(together[None])[0].numpy())
    np.testing.assert_array_equal(said.wave, said.whole[9 * hop :])
    alone = speak_lines(bundle, [Line("other"), Line("abc", prompt, "xyz")], cfg_scale=2.0, seed=3)[1]
    torch.testing.assert_close(alone.latents, said.latents, atol=1e-5, rtol=1e-5)


def test_an_offline_checkpoint_reads_both_texts_before_the_prompt() -> None:
    bundle = small_bundle(stream_n=None, stream_m=None)
    prompt = torch.randn(5, bundle.codec.config.dimension)
    (merged,) = speak_lines(bundle, [Line("b c", prompt, "a")], cfg_scale=1.5, seed=0)
    (written,) = speak_lines(bundle, [Line("a b c", prompt)], cfg_scale=1.5, seed=0)
    shared = min(len(merged.latents), len(written.latents))
    torch.testing.assert_close(merged.latents[:shared], written.latents[:shared])
    with pytest.raises(ModelError, match="offline"):
        speak_lines(bundle, [Line("a")], cfg_scale=2.0, seed=0, pacing=(5, 20))


def test_a_prompt_that_leaves_no_room_names_the_limit() -> None:
    bundle = small_bundle()
    with pytest.raises(ModelError, match="of 128 positions"):
        speak_lines(bundle, [Line("abc", torch.zeros(126, bundle.codec.config.dimension))], cfg_scale=2.0, seed=0)


class _Parrot:
    """Hears `words` and tells voices by their loudness, so that what is averaged can be known."""

    name = "pocketsphinx"

    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    def words(self, wave: Wave, rate: int) -> list[str]:
        return self.heard

    def embedding(self, wave: Wave, rate: int) -> Wave:
        return np.array([1.0, 0.0] if np.abs(wave).max() > 0.5 else [0.0, 1.0], np.float32)

    def scores(self, wave: Wave, rate: int) -> dict[str, float]:
        return {"p808": 3.0, "ovrl": 2.0, "sig": 2.0}


def test_a_panel_counts_words_over_all_clips_and_silence_as_nothing_said() -> None:
    judge = _Parrot(["a", "b", "x"])
    loud, soft, nothing = np.ones(RATE, np.float32), np.full(RATE, 0.1, np.float32), np.zeros(10, np.float32)
    clips = [
        Clip("A b, c.", loud, loud, RATE, loud),
        Clip("a b x", soft, soft, RATE, loud, cut=True),
        Clip("one two three four", nothing, nothing, RATE, loud),
    ]
    speaker = _Parrot([])
    speaker.name = "resemblyzer"
    row = Panel([judge], speaker, judge).score(clips)
    assert row["clips"] == 3
    assert row["cut"] == 1
    assert row["wer_open"] == pytest.approx((1 + 0 + 4) / 10)
    assert row["sim_resemblyzer"] == pytest.approx(0.5)
    assert row["dnsmos"] == pytest.approx((3 + 3 + 1) / 3)


def test_the_tables_hold_every_row(utterances: list[Utterance]) -> None:
    bundle, judge = small_bundle(voices=1), _Parrot(["sad"])
    protocol = Protocol(utterances, Panel([judge], None, judge), prefix_s=0.2)
    first = table_1(protocol, bundle)
    assert [(row["setting"], row["system"].split(",")[0]) for row in first.rows] == [
        (setting, system)
        for setting in ("0.2 s prefix", "reference utterance")
        for system in ("recordings", "recordings through the codec", "small")
    ]
    assert all(row["clips"] == 5 and row["wer_open"] > 0 for row in first.rows)
    offline = small_bundle(stream_n=None, stream_m=None)
    second = table_2(protocol, [offline, bundle], [(3, 4), (2, 6)])
    assert [row["system"] for row in second.rows] == [
        "small, offline", "small, streaming 3:4", "small, streaming 2:6",
    ]  # fmt: skip
    figure = figure_3(protocol, bundle, [1.0, 2.0], Setting.PREFIX)
    assert [row["cfg_scale"] for row in figure.rows] == [1.0, 2.0]
    assert figure.drawing is not None


def test_recordings_are_scored_as_they_are(utterances: list[Utterance]) -> None:
    protocol = Protocol(utterances, Panel(), prefix_s=0.2)
    clip = protocol.recorded(Setting.PREFIX, RATE)[0]
    np.testing.assert_array_equal(clip.heard, utterances[0].wave(RATE))
    np.testing.assert_array_equal(clip.voice, clip.heard[3200:])
    assert clip.prompt is not None
    np.testing.assert_array_equal(clip.prompt, clip.heard[:3200])


def test_unknown_and_missing_judges_say_so() -> None:
    with pytest.raises(ModelError, match="pocketsphinx, conformer-transducer, hubert"):
        choose(TRANSCRIBERS, "whisper", "transcriber")


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="transformers is installed")
def test_the_papers_judges_say_what_they_need() -> None:
    with pytest.raises(ModelError, match="pip install transformers"):
        choose(SPEAKER_JUDGES, "wavlm-tdnn", "speaker")


def test_a_prompt_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(ModelError, match="shorter than one frame"):
        prompt_latents(small_bundle(), np.zeros(3, np.float32))
