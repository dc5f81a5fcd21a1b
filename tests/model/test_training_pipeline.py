"""A recipe from nothing to a voice, interrupted anywhere, and what a wrong recipe says."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sled_tts.model.checkpoint import load_bundle
from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ConfigError, ModelError
from sled_tts.model.evaluation.voice import speak
from sled_tts.model.training.loop import StepReport
from sled_tts.model.training.pipeline import Pipeline
from sled_tts.model.training.recipe import (
    Recipe,
    check_recipe,
    find_recipe,
    read_recipe,
    with_codec,
    with_data,
    with_paths_from,
)
from sled_tts.model.training.workers import Workers

pytest.importorskip("lhotse", reason="the train extra is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sled_tts.model.training.data.encode import Encoder
from sled_tts.model.training.data.plan import Encoding
from sled_tts.model.training.data.shards import ShardIndex
from sled_tts.model.training.recordings import Preparation
from tests.model.disks import full_disk
from tests.model.test_training_data import RATE, cut, voice, write

DECODER = """steps = 6
warmup = 2
batch = 2
seconds = 0.2
windows = [128]
filters = 2
save_every = 2
report_every = 1"""

RECIPE = """
[data]
manifests = ["cuts.jsonl"]
align = false
[data.weights]
kim = 1.5
[codec]
config = { sampling_rate = 16000, dimension = 8, n_filters = 2, ratios = [8, 5, 4, 2], codebook_size = 8, n_q = 2 }
[codec.training]
steps = 8
spectral_from = 4
batch = 2
seconds = 0.2
rvq_latents = 60
save_every = 3
report_every = 1
[codec.polish]
DECODER
[codec.samples]
noise = [0.4, 0.6]
guidance = [1.5, 2.5]
[codec.tune]
DECODER
average = 0.9
residual_layers = 2
[codec.tune.weights]
kim = 2
[tokenizer]
vocab_size = 270
[sled]
hidden_size = 24
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2
vocab_size = 270
latent_dim = 8
stream_n = 3
stream_m = 8
dropout = 0.1
generator = { depth = 1, width = 16, noise_channels = 4 }
[melody]
steps = 6
batch = 2
width = 8
noise_channels = 2
least_voiced_s = 1.0
depth = 0.5
save_every = 2
report_every = 1
[training]
steps = 8
warmup = 2
positions = 400
save_every = 3
report_every = 1
prompts = { share = 0.8, max_frames = 400 }
metric_from = 4
metric_batches = 2
[voice]
name = "tiny"
voices = ["kim"]
""".replace("DECODER", DECODER)


def make_recipe(folder: Path) -> Recipe:
    cuts = []
    for index in range(6):
        seconds = 1.0 + 0.2 * index
        soundfile.write(folder / f"{index}.wav", voice(seconds, 180 + 9 * index), RATE)
        cuts.append(cut(f"c{index}", f"{index}.wav", seconds, text=f"say {index}"))
    write(folder, cuts)
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return with_paths_from(read_recipe(folder / "recipe.toml"), folder)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return make_recipe(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return contents(Pipeline(make_recipe(folder), folder / "work", Workers()).run())


def test_a_recipe_goes_on_from_a_smaller_checkpoint_and_saves_an_average(recipe: Recipe, tmp_path: Path) -> None:
    small = Pipeline(recipe, tmp_path / "small", Workers()).run()
    has = recipe.sled.num_hidden_layers
    deeper = replace(
        recipe,
        start=str(small),
        sled=replace(recipe.sled, num_hidden_layers=has + 1),
        training=replace(recipe.training, steps=2, average=0.9),
    )
    bundle = load_bundle(str(Pipeline(deeper, tmp_path / "deep", Workers()).run()))
    assert len(bundle.sled.layers) == has + 1
    assert bool(bundle.sled.layers[-1].mlp.down_proj.weight.any())


@pytest.mark.parametrize("wrong", [1.0, -0.1])
def test_what_can_be_no_decay_is_refused_before_anything_is_made(recipe: Recipe, wrong: float) -> None:
    assert recipe.codec.tune is not None
    tuned = replace(recipe.codec, tune=replace(recipe.codec.tune, average=wrong))
    for named, changed in (
        ("training", replace(recipe, training=replace(recipe.training, average=wrong))),
        ("codec.tune", replace(recipe, codec=tuned)),
    ):
        with pytest.raises(ModelError, match=rf"^{named}\.average must be in \[0, 1\), got {wrong}"):
            check_recipe(changed)


@pytest.mark.parametrize("wrong", [(0.6, 0.5), (-0.1, 0.5)])
def test_what_samples_cannot_be_drawn_with_is_refused(recipe: Recipe, wrong: tuple[float, float]) -> None:
    for name in ("noise", "guidance"):
        samples = replace(recipe.codec.samples, **{name: wrong})
        with pytest.raises(ModelError, match=rf"codec\.samples\.{name} must be from 0"):
            check_recipe(replace(recipe, codec=replace(recipe.codec, samples=samples)))


class Killed(Exception):
    pass


def test_a_recipe_ends_in_a_voice_that_speaks(recipe: Recipe, tmp_path: Path) -> None:
    said: list[str] = []
    folder = Pipeline(recipe, tmp_path / "work", Workers(), said.append).run()
    assert any("6 usable utterances" in line for line in said)
    bundle = load_bundle(str(folder))
    assert bundle.extras.speech_prompts
    assert bundle.extras.max_prompt_s == recipe.training.prompts.max_frames / bundle.codec.config.frame_rate
    assert bundle.codec.config.residual_layers_of_decoder == 2
    usual = (tmp_path / "cuts.jsonl").stat().st_mode
    assert {path.stat().st_mode for path in folder.rglob("*.safetensors")} == {usual}, "others may read it"
    kim, extras = bundle.voice("kim"), bundle.extras
    assert kim is not None
    assert kim.register is not None
    assert kim.register.hz == pytest.approx(202, rel=0.05), "as recorded"
    assert (extras.pitches_hz, extras.speech_level) == ((100.0, 150.0), 0.07)
    assert extras.melody is not None
    assert (extras.melody.depth, extras.melody.noise_scale) == (0.5, 1.0)
    assert bundle.tokenizer.vocab_size > 260
    assert len(bundle.tokenizer.encode("say 3")) < 2 + len("say 3"), "subwords, not bytes"
    ((wave, reason),) = speak(bundle, ["Hello."], seed=0, cfg_scale=2.0)
    assert reason in ("stop", "length")
    assert np.isfinite(wave).all()
    written = EventAccumulator(str(tmp_path / "work" / "board"), size_guidance={"audio": 9, "images": 9}).Reload()
    assert [event.step for event in written.Scalars("training/energy")] == list(range(1, 9))
    assert [event.step for event in written.Images("attention/0")] == [3, 6, 8]
    assert written.Tags()["audio"]
    again: list[str] = []
    Pipeline(recipe, tmp_path / "work", Workers(), again.append).run()
    assert [line for line in again if "there already" not in line] == ["network ..."], "nothing is done twice"


@pytest.mark.parametrize(
    "where",
    [
        ("melody.safetensors", 5),
        ("codec", 5),
        ("codec-polished", 5),
        "latents.npy ...",
        5,
        "aligned.npy ...",
        ("codec-tuned", 5),
    ],
)
def test_killed_anywhere_and_started_again_it_ends_with_the_same_bits(
    recipe: Recipe, tmp_path: Path, uninterrupted: dict[str, bytes], where: str | int | tuple[str, int]
) -> None:
    def say(text: str) -> None:
        if text == where:
            raise Killed

    def report(step: StepReport) -> None:
        if step.step == where:
            raise Killed

    def progress(stage: str, done: int, of: int, figures: str) -> None:
        if (stage, done) == where:
            raise Killed

    with pytest.raises(Killed):
        Pipeline(recipe, tmp_path / "cut", Workers(), say, report, progress).run()
    resumed = contents(Pipeline(recipe, tmp_path / "cut", Workers()).run())
    assert resumed.keys() == uninterrupted.keys()
    for name, content in uninterrupted.items():
        assert resumed[name] == content, name


STAGES = (
    "corpus", "codec", "codec-polished", "latents.npy", "melody.safetensors", "tokenizer", "network", "aligned.npy",
    "codec-tuned", "voice",
)  # fmt: skip


def test_a_disk_that_is_full_in_any_stage_ends_it_clearly_and_nothing_is_lost(
    recipe: Recipe, tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    for stage, following in zip(STAGES, [*STAGES[1:], None], strict=True):
        with full_disk(300), pytest.raises(ModelError, match=r"could not be written|could not write"):
            Pipeline(recipe, tmp_path / "work", Workers()).run()
        assert not (tmp_path / "work" / stage).exists()

        def say(text: str, last: str = f"{following} ...") -> None:
            if text == last:
                raise Killed

        with nullcontext() if following is None else pytest.raises(Killed):
            Pipeline(recipe, tmp_path / "work", Workers(), say).run()
    assert contents(tmp_path / "work" / "voice") == uninterrupted


def test_a_recipe_on_shards_ends_in_a_voice(recipe: Recipe, tmp_path: Path) -> None:
    codec = Codec(recipe.codec.config)
    codec.save(tmp_path / "codec")
    how = Preparation(RATE, 320, level=0, trim=False, lock_pitch=False, align=False)
    ready = Codec.load(tmp_path / "codec")
    Encoder(tmp_path / "cuts.jsonl", tmp_path / "shards", ready, Encoding("latents", 0.002, how=how)).run()
    changed = with_data(recipe, tmp_path / "shards")
    with pytest.raises(ModelError, match="shards need the codec"):
        Pipeline(changed, tmp_path / "work", Workers()).run()
    changed = with_codec(changed, tmp_path / "codec")
    for stage in ("polish", "tune"):
        with pytest.raises(ModelError, match=rf"^codec\.{stage}: .* shards have none") as caught:
            Pipeline(changed, tmp_path / "work", Workers()).run()
        assert caught.value.param == f"codec.{stage}"
        without: dict[str, Any] = {stage: None}
        changed = replace(changed, codec=replace(changed.codec, **without))
    with pytest.raises(ConfigError, match=r"^melody is learnt from recordings"):
        Pipeline(changed, tmp_path / "work", Workers()).run()
    changed = replace(changed, melody=None)
    assert not (tmp_path / "work").exists()
    with pytest.raises(ModelError, match=r"data\.weights\.tom: no speaker 'tom' in the corpus; there are: kim"):
        Pipeline(replace(changed, data=replace(changed.data, weights={"tom": 2.0})), tmp_path / "work", Workers()).run()
    folder = Pipeline(changed, tmp_path / "work", Workers()).run()
    assert not (tmp_path / "work" / "corpus").exists()
    bundle = load_bundle(str(folder))
    assert bundle.voice("kim") is not None
    assert bundle.extras.latent_std == pytest.approx(ShardIndex.load(tmp_path / "shards").std)
    Codec(recipe.codec.config).save(tmp_path / "other")
    with pytest.raises(ModelError, match="encoded with another codec"):
        Pipeline(with_codec(changed, tmp_path / "other"), tmp_path / "again", Workers()).run()
    Codec(replace(recipe.codec.config, dimension=4)).save(tmp_path / "narrow")
    with pytest.raises(ModelError, match=r"latent_dim is 8, the codec's latents have 4"):
        Pipeline(with_codec(changed, tmp_path / "narrow"), tmp_path / "again", Workers()).run()


def test_a_codec_that_is_given_is_polished_and_tuned_as_the_recipe_says(recipe: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(5)
    Codec(recipe.codec.config).save(tmp_path / "given")
    stages, said, work = set[str](), list[str](), tmp_path / "work"
    changed = with_codec(recipe, tmp_path / "given")
    folder = Pipeline(changed, work, Workers(), said.append, progress=lambda *told: stages.add(told[0])).run()
    assert stages == {"corpus", "codec-polished", "codec-tuned", "melody.safetensors"}
    assert load_bundle(str(folder)).codec.config.residual_layers_of_decoder == 2
    # The recipe's weights show an utterance more than once; it is replaced by samples once.
    assert f"{len(np.load(work / 'latents.npy'))} samples of the network" in said
    folders = [tmp_path / "given", *(work / name for name in ("codec", "codec-polished", "codec-tuned"))]
    codecs = [Codec.load(path) for path in folders]
    wave = torch.randn(1, 1, 1600, generator=torch.Generator().manual_seed(0)) / 10
    latents = codecs[0].encode_unquantised(wave)
    for codec in codecs[1:]:  # what the network learns stays as it is; weights that are read back are rounded
        torch.testing.assert_close(codec.encode_unquantised(wave), latents, atol=1e-5, rtol=1e-4)
    heard = [codec.decode(latents) for codec in codecs]
    assert [torch.allclose(*pair, atol=1e-5) for pair in pairwise(heard)] == [True, False, False]


def test_data_by_a_path_and_recipes_by_name(recipe: Recipe, tmp_path: Path) -> None:
    assert find_recipe("tiny").name == "tiny.toml"
    with pytest.raises(ConfigError, match=r"no recipe file huge; .* paper_offline, paper_streaming, tiny"):
        find_recipe("huge")
    with pytest.raises(ConfigError, match=r"neither shards nor cuts_train\.jsonl; there is cuts\.jsonl"):
        with_data(recipe, tmp_path)
    assert with_data(recipe, tmp_path / "cuts.jsonl").data.manifests == (str(tmp_path / "cuts.jsonl"),)
    (tmp_path / "cuts.jsonl").rename(tmp_path / "cuts_train.jsonl")
    assert with_data(recipe, tmp_path).data.manifests == (str(tmp_path / "cuts_train.jsonl"),)


def test_a_fault_in_a_manifest_ends_the_run_before_anything_is_trained(recipe: Recipe, tmp_path: Path) -> None:
    with (tmp_path / "cuts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(cut("gone", "gone.wav", 1.0)) + "\n")
    with pytest.raises(ModelError, match="cannot be used"):
        Pipeline(recipe, tmp_path / "work", Workers()).run()
    assert not (tmp_path / "work" / "corpus").exists()


def test_an_unknown_speaker_is_named_with_those_there_are(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.replace('voices = ["kim"]', 'voices = ["tim"]'), encoding="utf-8")
    changed = with_paths_from(read_recipe(tmp_path / "recipe.toml"), tmp_path)
    with pytest.raises(ModelError, match=r"no speaker 'tim' in the corpus; there are: kim"):
        Pipeline(changed, tmp_path / "work", Workers()).run()


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ("kim = 2", "codec.tune.weights.kam: no speaker 'kam' in the corpus; there are: kim"),
        ("kim = 1.5", "data.weights.kam: no speaker"),
    ],
)
def test_weights_of_an_unknown_speaker_end_the_run_before_anything_is_trained(
    recipe: Recipe, tmp_path: Path, weights: str, named: str
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.replace(weights, weights.replace("kim", "kam")), encoding="utf-8")
    with pytest.raises(ModelError, match=named):
        Pipeline(with_paths_from(read_recipe(tmp_path / "recipe.toml"), tmp_path), tmp_path / "work", Workers()).run()
    assert not (tmp_path / "work" / "codec").exists()


def test_a_weight_that_is_none_is_refused_before_anything_is_made(recipe: Recipe, tmp_path: Path) -> None:
    wrong = replace(recipe, data=replace(recipe.data, weights={"kim": 0.0}))
    with pytest.raises(ModelError, match=r"data\.weights\.kim must be greater than 0"):
        Pipeline(wrong, tmp_path / "work", Workers()).run()
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("steps = 8\nwarmup", "stepps = 8\nwarmup"), r"unknown key training\.stepps"),
        (("positions = 400", 'positions = "many"'), r"training\.positions"),
        (("kim = 1.5", 'kim = "often"'), r"data\.weights\.kim"),
        (("depth = 1,", "depht = 1,"), r"unknown key sled\.generator\.depht"),
        (("hidden_size = 24\n", ""), r"sled\.hidden_size"),
        (("[data]", "[data"), "recipe.toml"),
        (("n_filters = 2", "n_filters = 3"), "n_filters must be a multiple"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace(*change), encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        read_recipe(path)


@pytest.mark.parametrize("name", ["paper_offline", "paper_streaming", "tiny"])
def test_the_recipes_that_come_along_can_be_read(name: str) -> None:
    with resources.as_file(resources.files("sled_tts.model.training") / "recipes" / f"{name}.toml") as path:
        recipe = read_recipe(path)
    if name != "tiny":
        assert recipe.sled.hidden_size == 1024
        assert recipe.training.steps in (300_000, 100_000)
        assert torch.tensor(recipe.training.betas).tolist() == pytest.approx([0.9, 0.999])
