"""The measurements of long texts: what they conclude from sounds, words and voices that are known."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sled_tts.bench import longtext, pauses
from sled_tts.bench.clips import Cut, Judge, Verdict
from sled_tts.bench.joints import inspect_joint
from sled_tts.bench.likeness import Heard, recordings
from sled_tts.bench.seams import pairs
from sled_tts.bench.serving import ServerProcess
from sled_tts.server.sessions.splitting import SplitPlan, Splitter
from sled_tts.server.wiring import load_service
from tests.server.routes.conftest import write_checkpoint
from tests.server.routes.loopback import running

RATE = 16_000


def tone(seconds: float, level: float, hz: float = 200.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_silence_level_and_clicks_are_found_where_they_are() -> None:
    wave = np.concatenate([tone(1.5, 0.2), np.zeros(round(0.3 * RATE), np.float32), tone(1.5, 0.4)])
    joint = inspect_joint(wave, RATE, round(1.65 * RATE))
    assert joint.silence_s == pytest.approx(0.3, abs=0.011)
    assert joint.level_jump_db == pytest.approx(6.02, abs=0.2)
    smooth = tone(2.0, 0.3)
    assert inspect_joint(smooth, RATE, RATE).silence_s == 0
    assert inspect_joint(smooth, RATE, RATE).click_db == pytest.approx(0, abs=1)
    broken = smooth.copy()
    broken[RATE + 20 :] *= -1
    assert inspect_joint(broken, RATE, RATE + 20).click_db > 20


def test_pairs_are_a_segment_each_and_fit_into_one() -> None:
    for first, second in pairs(10, 80, 3):
        pieces = Splitter(SplitPlan.trained_on(80)).feed(f"{first} {second} ")
        assert [piece.text.strip() for piece in pieces if piece.ends] == [first, second]
        assert len(f"{first} {second}") < 80


def test_a_word_read_as_several_is_told_once_and_a_repeated_one_twice() -> None:
    text, reading = "Steels, etc. Behind him", longtext.Reading(keep=False)
    said = [("Steels,", 0, 7), ("et", 8, 12), ("cetera.", 8, 12), ("Behind", 13, 19), ("him", 20, 23)]
    words = [{"text": t, "begin": b, "end": e, "start_s": 0.5 * k} for k, (t, b, e) in enumerate(said)]
    assert [reading.hear(word) for word in words] == [True, True, False, True, True]
    assert longtext.told_once_in_order(text, reading.told)
    assert longtext.told_once_in_order("Sick , once", [(0, 4, 0.0), (7, 11, 0.4)]), "a comma alone is no word"
    again = longtext.Reading(keep=False)
    for word in (*words[:4], words[3], words[4]):
        again.hear(word)
    assert not longtext.told_once_in_order(text, again.told)


def test_words_have_to_be_told_once_and_in_order() -> None:
    text = "one two. three "
    told = [(0, 3, 0.0), (4, 8, 0.5), (9, 14, 0.9)]
    assert longtext.told_once_in_order(text, told)
    assert longtext.sentence_starts(["one two.", "three"], told) == [0.0, 0.9]
    assert longtext.sentence_starts(["one two.", "three"], told[:2]) == [0.0], "the second has not been said"
    assert not longtext.told_once_in_order(text, told[:2])
    assert not longtext.told_once_in_order(text, [*told[:2], told[1], told[2]])
    assert not longtext.told_once_in_order(text, [told[0], (4, 8, 1.5), told[2]])


async def test_a_long_text_goes_through_a_live_server(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "voice", "long", {"max_segment_chars": 40}, stream_n=3, stream_m=4)
    sentences = [f"some words to learn and number {'abcdefgh'[k % 8]} too." for k in range(12)]
    options = argparse.Namespace(listen=True, minutes=None, ahead=40, seed=3, voice=None)
    service = load_service([str(folder)], slots=1, threads=1, device="cpu")
    async with running(service) as live:
        here = ServerProcess(f"http://127.0.0.1:{live.port}", os.getpid())
        reading, text = await longtext.read_out(here, iter(sentences), options)
    assert text.split() == " ".join(sentences).split()
    assert longtext.told_once_in_order(text, reading.told)
    assert reading.done is not None
    assert reading.wave.size == reading.samples == round(reading.done["duration_s"] * reading.rate)
    assert len(longtext.sentence_starts(sentences, reading.told)) == len(sentences)
    assert reading.memory[0][1] > 0


class ListeningJudge(Judge):
    """Hears what a clip says in its first samples instead of speech: pocketsphinx knows no speech that is made here."""

    says: tuple[str, ...] = ()

    def _recognise(self, audio: bytes, candidates: Any) -> list[str]:
        assert self._spelled[4] in candidates
        return list(self.says)


@pytest.mark.parametrize(
    ("places", "verdict"),
    [
        ((4,), Verdict.ONCE),
        ((5,), Verdict.SHIFTED),
        ((1,), Verdict.SHIFTED),
        ((4, 4), Verdict.TWICE),
        ((4, 5), Verdict.TWICE),
        ((), Verdict.UNCLEAR),
    ],
)
def test_what_is_heard_is_lost_repeated_or_merely_unclear(places: tuple[int, ...], verdict: Verdict) -> None:
    sentences = [f"{word} is here" for word in "one two three four five six seven eight nine ten".split()]  # noqa: SIM905
    judge = ListeningJudge(sentences)
    judge.says = tuple(word for place in places for word in sentences[place].split())
    cut = Cut(tone(10, 0.1), RATE, [float(k) for k in range(10)])
    assert cut.clip(9).size == pytest.approx(1.05 * RATE)
    assert judge.hear(cut.clip(4), RATE, 4) is verdict


def test_a_voice_has_to_be_nearest_to_its_own_recording() -> None:
    own, other, third = np.eye(3, dtype=np.float32)
    clips = np.stack([0.8 * own + 0.6 * other, 0.6 * own + 0.8 * third])
    heard = Heard(clips, own, np.stack([other, third]))
    assert heard.likeness == pytest.approx(0.7)
    assert heard.nearest == pytest.approx(0.4)
    assert heard.clips_told == 1


def test_one_recording_of_each_reader_is_taken_and_others_for_comparison(tmp_path: Path) -> None:
    def cut(name: str, reader: str, seconds: float) -> str:
        soundfile.write(tmp_path / f"{name}.wav", tone(seconds, 0.1), RATE)
        told = [{"speaker": reader, "text": name}]
        source = {"sources": [{"type": "file", "channels": [0], "source": f"{name}.wav"}]}
        return json.dumps({"start": 0.0, "duration": seconds, "supervisions": told, "recording": source})

    rows = [cut("a", "ann", 1.0), cut("b", "ann", 4.0), cut("c", "ann", 5.0), cut("d", "bo", 4.5), cut("e", "cy", 4.0)]
    rows += [cut(name, "cy", 6.0) for name in "fghi"] + [cut("j", "di", 4.0), cut("k", "di", 9.0), cut("l", "eve", 4.0)]
    (tmp_path / "cuts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    found = recordings(tmp_path / "cuts.jsonl", 2, ["bo"], 3.0, 8.0)
    assert [(one.reader, one.text, one.rate) for one in found] == [("ann", "b", RATE), ("cy", "e", RATE)]
    assert soundfile.info(str(tmp_path / "b.wav")).frames == found[0].wave.size
    assert [[wave.size / RATE for wave in one.unheard] for one in found] == [[5.0], [6.0] * 3]
    others = recordings(tmp_path / "cuts.jsonl", 9, ["bo"], 3.0, 8.0)
    assert [one.reader for one in others] == ["ann", "cy"], "of the rest there is one recording alone"
    assert found[0].upload()[:4] == b"fLaC"


async def test_a_slow_writer_gets_the_same_samples(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "voice", "slow", {"max_segment_chars": 80}, stream_n=3, stream_m=4)
    service = load_service([str(folder)], slots=1, threads=1, device="cpu")
    try:
        figures = await pauses.measure(service, 1, 0.2, 5)
    finally:
        service.close()
    assert figures["same_samples"] == figures["sentences"] == 1
    assert figures["pauses"] == 3
    assert figures["waited_for"] > 0
    assert figures["chunks_in_pauses"] == figures["beyond_the_text"] == 0
    assert 0 < figures["spoken_of_allowed"] <= 1
