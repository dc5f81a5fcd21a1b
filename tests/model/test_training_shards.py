"""A manifest encoded into shards, interrupted and damaged, and training that reads them piece by piece."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from typer.testing import CliRunner

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.tokenizer import SPECIAL, Tokenizer, train_tokenizer
from sled_tts.model.training.loop import SledTraining, StepReport, _own, train_sled
from sled_tts.model.training.objective import Objective
from sled_tts.model.training.pairing import PairedBatches, Pairing
from sled_tts.model.training.workers import Workers
from tests.model.codec.factories import random_codec
from tests.model.disks import full_disk
from tests.model.factories import tiny

pytest.importorskip("lhotse", reason="the train extra is not installed")

from sled_tts.model.training.data.cli import app
from sled_tts.model.training.data.encode import Encoder
from sled_tts.model.training.data.plan import Encoding
from sled_tts.model.training.data.shards import ShardIndex, read_shard
from sled_tts.model.training.data.streaming import ShardCorpus, shard_utterances
from sled_tts.model.training.recordings import Preparation
from tests.model.test_training_data import RATE, cut, voice, write

CUTS = 14
SMALL = CodecConfig(sampling_rate=RATE, dimension=6, n_filters=2, ratios=(8, 5, 4, 2), codebook_size=16, n_q=3, lstm=0)
HOW = Preparation(SMALL.sampling_rate, SMALL.hop_length, level=0, trim=False, lock_pitch=False, align=False)
CODES = Encoding(shard_mb=0.0003, how=HOW)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return random_codec(SMALL)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    cuts = []
    for index in range(CUTS):
        seconds = 0.4 + 0.05 * index
        soundfile.write(folder / f"{index}.wav", voice(seconds, 180 + 9 * index), RATE)
        cuts.append(cut(f"c{index}", f"{index}.wav", seconds, text=f"say {index}", speaker="AB"[index % 2]))
    return write(folder, cuts)


@pytest.fixture(scope="module")
def encoded(manifest: Path, codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards")
    index = Encoder(manifest, out, codec, CODES).run()
    assert index is not None
    assert len(index.shards) >= 4
    return out


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["some text"], len(SPECIAL) + 256)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_hold_the_codes_of_every_utterance_and_their_size_is_bounded(
    manifest: Path, codec: Codec, encoded: Path, tokenizer: Tokenizer
) -> None:
    index = ShardIndex.load(encoded)
    assert index.utterances == CUTS
    seen = 0
    every: list[np.ndarray] = []
    for entry, corpus in zip(index.shards, ShardCorpus.open(encoded, tokenizer, None, None).windows(), strict=True):
        shard = read_shard(encoded / entry.file, "codes")
        assert shard.frames.dtype == np.uint8
        assert shard.frames.nbytes <= 0.0003 * 2**20
        for item in corpus.items:
            samples, _ = soundfile.read(manifest.parent / f"{seen}.wav")
            samples = samples - samples.mean()
            samples = (np.pad(samples, (0, -len(samples) % SMALL.hop_length)) * 32767).astype("<i2")
            wave = torch.from_numpy(samples.astype(np.float32) / 32768)[None, None]
            assert (item.text, item.speaker) == (f"say {seen}", "AB"[seen % 2])
            latents = corpus.latents[item.offset : item.offset + item.frames]
            torch.testing.assert_close(torch.from_numpy(latents), codec.encode(wave)[0], atol=1e-6, rtol=0)
            every.append(latents)
            seen += 1
    assert seen == CUTS
    together = np.concatenate(every)
    np.testing.assert_allclose(index.mean, together.mean(0), atol=1e-5)
    assert index.std == pytest.approx(float((together - together.mean(0)).std()), rel=1e-4)
    assert [item.text for item in shard_utterances(encoded)] == [f"say {number}" for number in range(CUTS)]


class Killed(Exception):
    pass


def test_killed_in_the_middle_it_ends_with_the_same_bytes_and_does_nothing_twice(
    manifest: Path, codec: Codec, encoded: Path, tmp_path: Path
) -> None:
    def kill(done: int, of: int) -> None:
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        Encoder(manifest, tmp_path, codec, CODES, progress=kill).run()
    with pytest.raises(ModelError, match="not encoded to the end"):
        ShardIndex.load(tmp_path)
    (tmp_path / "shard-00002.safetensors.partial").write_bytes(b"half")
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shard-0000[01].*")}
    assert len(written) == 4
    Encoder(manifest, tmp_path, codec, CODES).run()
    assert contents(tmp_path) == contents(encoded)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in written} == written


@pytest.mark.parametrize("harm", ["cut short", "one bit", "gone", "no record"])
def test_a_damaged_shard_is_found_and_made_again(
    manifest: Path, codec: Codec, encoded: Path, tokenizer: Tokenizer, tmp_path: Path, harm: str
) -> None:
    shutil.copytree(encoded, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    match harm:
        case "cut short":
            path.write_bytes(data[:-3])
        case "one bit":
            path.write_bytes(data)
        case "gone":
            path.unlink()
        case _:
            path.with_suffix(".json").write_text('{"file": "shard')
    if harm != "no record":
        with pytest.raises(ModelError, match=r"shard-00001\.safetensors.*encode again"):
            list(ShardCorpus.open(tmp_path, tokenizer, None, None).windows())
    said: list[str] = []
    Encoder(manifest, tmp_path, codec, CODES, say=said.append).run()
    assert contents(tmp_path) == contents(encoded)
    assert [line.split(" is")[0] for line in said] == ["shard-00001"]


def test_the_work_can_be_shared_out(manifest: Path, codec: Codec, encoded: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert Encoder(manifest, tmp_path, codec, CODES, say=said.append).run(1, 2) is None
    assert "the index follows" in said[-1]
    assert Encoder(manifest, tmp_path, codec, CODES).run(0, 2) is not None
    assert contents(tmp_path) == contents(encoded)


def test_other_settings_are_refused_by_name(manifest: Path, codec: Codec, encoded: Path) -> None:
    before = contents(encoded)
    with pytest.raises(ModelError, match=r"other settings: store \('codes' then, 'latents' now\)"):
        Encoder(manifest, encoded, codec, replace(CODES, store="latents")).run()
    with pytest.raises(ModelError, match="codec"):
        Encoder(manifest, encoded, random_codec(SMALL, seed=9), CODES).run()
    assert contents(encoded) == before


def test_latents_in_shards_are_what_the_encoder_gives(manifest: Path, codec: Codec, tmp_path: Path) -> None:
    plain = replace(CODES, store="latents", shard_mb=0.01)
    Encoder(manifest, tmp_path / "one", codec, plain).run()
    Encoder(manifest, tmp_path / "many", codec, replace(plain, batch_s=4.0)).run()
    for entry in ShardIndex.load(tmp_path / "one").shards:
        alone = read_shard(tmp_path / "one" / entry.file, "latents").frames
        assert alone.dtype == np.float16
        padded = read_shard(tmp_path / "many" / entry.file, "latents").frames
        np.testing.assert_allclose(alone, padded, atol=2e-3 * float(np.abs(alone).max()), rtol=0)


def test_what_cannot_be_used_stops_the_encoding_or_is_said(manifest: Path, codec: Codec, tmp_path: Path) -> None:
    shutil.copytree(manifest.parent, tmp_path / "in")
    lines = manifest.read_text(encoding="utf-8")
    bad = tmp_path / "in" / manifest.name
    bad.write_text(lines + json.dumps(cut("gone", "gone.wav", 1.0)) + "\n", encoding="utf-8")
    with pytest.raises(ModelError, match="1 with a missing audio file: gone"):
        Encoder(bad, tmp_path / "out", codec, CODES).run()
    assert not (tmp_path / "out").exists()
    bad.write_text(lines, encoding="utf-8")
    (tmp_path / "in" / "5.wav").write_bytes(b"RIFF and nothing more")
    with pytest.raises(ModelError, match=r"c5: .*5\.wav cannot be read"):
        Encoder(bad, tmp_path / "out", codec, CODES).run()
    said: list[str] = []
    index = Encoder(bad, tmp_path / "out", codec, replace(CODES, skip_bad=True), say=said.append).run()
    assert index is not None
    assert index.utterances == CUTS - 1
    assert [e.faults for e in index.shards if e.faults] == [{"audio that cannot be read": [1, ["c5"]]}]
    assert any("c5" in line for line in said)


def test_a_lane_reads_only_its_own_shards_once_an_epoch(encoded: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    shutil.copytree(encoded, tmp_path, dirs_exist_ok=True)
    count = len(ShardIndex.load(encoded).shards)
    for number in range(0, count, 2):
        (tmp_path / f"shard-{number:05d}.safetensors").unlink()
    data = ShardCorpus.open(tmp_path, tokenizer, None, None, window_shards=1)
    odd = [read_shard(tmp_path / f"shard-{number:05d}.safetensors", "codes").items for number in range(1, count, 2)]
    for epoch in range(2):
        texts = [item.text for w in range(len(odd)) for item in data.window(1, 2, epoch * len(odd) + w).items]
        assert sorted(texts) == sorted(item.text for items in odd for item in items)
    with pytest.raises(ModelError, match="is missing"):
        data.window(0, 2, 0)
    with pytest.raises(ModelError, match="smaller shards"):
        data.lanes(count + 1)


def drawn(batches: PairedBatches, index: int) -> list[tuple[str | None, str]]:
    return [(None if prompt is None else prompt.text, item.text) for prompt, item in batches[index][1]]


def test_batches_are_a_function_of_their_number_wherever_one_starts(encoded: Path, tokenizer: Tokenizer) -> None:
    def make() -> PairedBatches:
        data = ShardCorpus.open(encoded, tokenizer, None, None, window_shards=2)
        return PairedBatches(data, 90, Pairing(0.5, 60), seed=4, lanes=2)

    forward = make()
    every = [drawn(forward, index) for index in range(60)]
    assert len({text for batch in every for _, text in batch}) == CUTS
    assert drawn(make(), 41) == every[41]
    assert drawn(forward, 3) == every[3], "going back"
    ahead = make()
    assert [drawn(ahead, index) for index in (30, 36, 38, 32, 31, 33)] == [every[i] for i in (30, 36, 38, 32, 31, 33)]
    late = make()
    assert [drawn(late, index) for index in (50, 51)] == every[50:52]
    late.share(Workers())
    resumed = make()
    resumed.load_state_dict(late.state_dict())
    assert [drawn(resumed, index) for index in range(50, 60)] == every[50:60]
    assert resumed._places[0].window > 2, "it did not read everything before"
    assert drawn(resumed, 0) == every[0]


TRAINING = SledTraining(
    steps=8, positions=150, accumulation=2, lr=4e-3, warmup=3, prompts=Pairing(0.8, 60), save_every=3, report_every=1,
    objective=Objective(text_drop=0.2, precision="fp32"),
)  # fmt: skip


def test_weighted_speakers_of_shards_wherever_one_starts(encoded: Path, tokenizer: Tokenizer) -> None:
    data = ShardCorpus.open(encoded, tokenizer, None, None, window_shards=2)

    def batches() -> PairedBatches:
        return PairedBatches(data, 120, Pairing(0.6, 60), seed=1, lanes=2, weights={"A": 3.0, "B": 0.5})

    whole, heard = batches(), {"A": 0, "B": 0}
    for index in range(400):
        for pair in whole[index][1]:
            heard[pair[1].speaker] += 1
    assert heard["A"] / heard["B"] == pytest.approx(6.0, rel=0.15)
    first, second = batches(), batches()
    expected = [drawn(first, index) for index in range(30)]
    second.load_state_dict(first.state_dict())
    assert [drawn(second, index) for index in range(24, 30)] == expected[24:]


def run(data: ShardCorpus, path: Path, stop: int | None = None) -> tuple[dict[str, Tensor], list[float]]:
    energies: list[float] = []

    def report(step: StepReport) -> None:
        energies.append(step.energy)
        if step.step == stop:
            raise Killed

    shape = tiny(0, stream_n=3, stream_m=2)[0].config
    config = replace(shape, vocab_size=len(SPECIAL) + 256, latent_dim=SMALL.dimension)
    return dict(train_sled(data, config, TRAINING, path, report=report).state_dict()), energies


def test_training_on_shards_killed_and_resumed_ends_with_the_same_bits(
    encoded: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    data = ShardCorpus.open(encoded, tokenizer, 3, 2, window_shards=1)
    whole, energies = run(data, tmp_path / "whole.safetensors")
    with pytest.raises(Killed):
        run(data, tmp_path / "cut.safetensors", stop=5)
    resumed, rest = run(data, tmp_path / "cut.safetensors")
    assert rest == energies[3:]
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_two_processes_share_out_what_one_with_twice_the_accumulation_reads() -> None:
    one = replace(TRAINING, accumulation=4)
    for step in range(3):
        parts = [_own(step, TRAINING, Workers(rank, 2)) for rank in (0, 1)]
        assert [*parts[0], *parts[1]] == list(_own(step, one, Workers()))
        lanes = [{index % 4 for index in part} for part in parts]
        assert lanes == [{0, 1}, {2, 3}], "each process keeps to its own shards"


def test_a_disk_that_fills_up_leaves_whole_shards_only(
    manifest: Path, codec: Codec, encoded: Path, tmp_path: Path
) -> None:
    shutil.copytree(encoded, tmp_path, copy_function=os.link, dirs_exist_ok=True)
    (tmp_path / "shard-00001.safetensors").unlink()
    before = contents(tmp_path)
    with full_disk(150), pytest.raises(ModelError, match=r"could not write .*shard-00001\.safetensors"):
        Encoder(manifest, tmp_path, codec, CODES).run()
    assert contents(tmp_path) == before


def command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def test_on_the_command_line(manifest: Path, codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path / "codec")
    encode = ("encode", manifest, tmp_path / "out", "--codec", tmp_path / "codec", "--shard-mb", 0.0003)
    status, said = command(*encode, "--share", "1/2")
    assert status == 0
    assert "the index follows" in said
    assert command("check", tmp_path / "out")[0] == 1
    status, said = command(*encode)
    assert status == 0
    assert f"{CUTS} utterances" in said
    assert command("check", tmp_path / "out")[0] == 0
    (tmp_path / "out" / "shard-00000.safetensors").write_bytes(b"")
    status, said = command("check", tmp_path / "out")
    assert status == 1
    assert "1 of" in said
    for wrong, why in ((("--share", "2/2"), "share must be I/N"), (("--store", "mp3"), "store must be one of")):
        status, said = command(*encode, *wrong)
        assert status == 1
        assert why in said
