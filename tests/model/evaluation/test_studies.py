"""Trainings compared, distributions tested, pages written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sled_tts.model.checkpoint import save_bundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.ablations import Experiment, table_3, table_5
from sled_tts.model.evaluation.arms import Arm, Selection, normalised_as, run_arm, small_training
from sled_tts.model.evaluation.distribution import Liveliness, held_out_items, spread
from sled_tts.model.evaluation.drawing import Drawing, Panel
from sled_tts.model.evaluation.normality import Normality, appendix_b, conditional_samples
from sled_tts.model.evaluation.page import Column, Page, command_line
from sled_tts.model.evaluation.utterances import Utterance
from sled_tts.model.evaluation.voice_page import recordings_of
from sled_tts.model.training.batches import Corpus
from tests.model.evaluation.small import small_bundle, small_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, Corpus]:
    bundle = small_bundle()
    work = small_corpus(tmp_path / "work", bundle.codec)
    return work, Corpus.open(work / "corpus", work / "latents.npy", bundle.tokenizer, 3, 4)


def test_scatter_tells_a_distribution_from_a_point(corpus: tuple[Path, Corpus]) -> None:
    bundle = small_bundle()
    heard = held_out_items(corpus[1], None, None, 4)
    alive = spread(bundle.sled, heard, seed=0)
    assert alive.ratio > 0.05
    assert alive.energy == pytest.approx(2 * alive.error - alive.between, rel=1e-3)
    with torch.no_grad():
        bundle.sled.generator.input_proj.weight.zero_()
    collapsed = spread(bundle.sled, heard, seed=0)
    assert collapsed.between == pytest.approx(0.0, abs=1e-5)
    assert collapsed.energy == pytest.approx(2 * collapsed.error, rel=1e-4)


def test_liveliness_of_a_known_signal() -> None:
    steps = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
    alive = Liveliness.of([steps, torch.zeros(1, 2)])
    assert alive.change == pytest.approx(2.0)
    assert alive.deviation == pytest.approx(float(torch.tensor([0.0, 2.0, 0.0, 2.0]).std()) / 2)
    assert Liveliness.of([]) == Liveliness(0.0, 0.0)


def test_a_selection_takes_the_first_hours_of_a_speaker(corpus: tuple[Path, Corpus]) -> None:
    rate = small_bundle().codec.config.frame_rate
    ann = Selection("ann", hours=40 / rate / 3600).of(corpus[1], rate)
    assert [item.index for item in ann.items] == [1, 3]
    assert len(Selection(longest=20).of(corpus[1], rate).items) == 10
    for empty in (Selection("zoe"), Selection(longest=19), Selection(hours=5.0)):
        with pytest.raises(ModelError, match="the corpus has"):
            empty.of(corpus[1], rate)


def test_an_arm_learns_with_and_without_repulsion_and_is_not_trained_twice(
    corpus: tuple[Path, Corpus], tmp_path: Path
) -> None:
    shape = small_bundle().config
    curves = {}
    for repulsion in (True, False):
        arm = Arm(f"arm-{repulsion}", small_training(26, repulsion=repulsion, positions=120), Selection(), shape)
        made = run_arm(arm, corpus[0], tmp_path / arm.name)
        curves[repulsion] = (tmp_path / arm.name / "curve.jsonl").read_text(encoding="utf-8")
        assert json.loads(curves[repulsion].splitlines()[0])["step"] == 25
        again = run_arm(arm, corpus[0], tmp_path / arm.name)
        assert (tmp_path / arm.name / "curve.jsonl").read_text(encoding="utf-8") == curves[repulsion]
        torch.testing.assert_close(again.sled.state_dict(), made.sled.state_dict())
        assert normalised_as(corpus[1], made.extras).std == pytest.approx(corpus[1].std)
    assert curves[True] != curves[False]


def test_the_tables_of_trainings_hold_every_arm(corpus: tuple[Path, Corpus], tmp_path: Path) -> None:
    heard: list[int] = []

    def recognise(clips: object) -> tuple[float, float]:
        assert isinstance(clips, list)
        heard.append(len(clips))
        return 0.5, 0.25

    experiment = Experiment(corpus[0], tmp_path / "arms", ["one two three", "four"], recognise)
    begun = small_bundle()
    extras = {"name": "begun", "latent_mean": 0.0, "latent_std": 2.0, "speech_prompts": True}
    save_bundle(tmp_path / "start", begun.sled, begun.tokenizer, begun.codec, extras, dtype=torch.float32)
    tuned = table_3(experiment, str(tmp_path / "start"), (2, Selection("bob")), (0, Selection()))
    assert [(row["system"], row["steps"]) for row in tuned.rows] == [
        ("start of both", 0), ("start-energy", 2), ("start-rmse", 2),
    ]  # fmt: skip
    assert heard == [2, 2, 2]
    assert all(row["closed_set"] == 0.5 for row in tuned.rows)
    page = table_3(experiment, None, (1, Selection()), (26, Selection("ann")))
    assert [row["system"] for row in page.rows] == ["fresh-energy", "fresh-rmse"]
    assert heard == [2, 2, 2]
    assert all("closed_set" not in row and row["energy"] > 0 for row in page.rows)
    rate = small_bundle().codec.config.frame_rate
    sizes = [Selection("ann", None, frames / rate / 3600) for frames in (40, 80)]
    data = table_5(experiment, 26, sizes)
    assert [row["hours"] for row in data.rows] == [size.hours for size in sizes]
    assert "RMSE" in page.markdown("command", {})


def test_gaussians_pass_and_others_do_not() -> None:
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    normal = Normality.of(rng.standard_normal((400, 60)).astype(np.float32))
    assert normal.rejected < 0.2
    assert Normality.of(rng.uniform(size=(400, 20)).astype(np.float32)).rejected == 1.0
    with pytest.raises(ModelError, match="3 to 5000"):
        Normality.of(np.zeros((2, 4), np.float32))


def test_samples_of_a_frame_share_its_condition() -> None:
    bundle = small_bundle()
    states = torch.randn(3, bundle.config.hidden_size)
    drawn = conditional_samples(bundle, states, 7, seed=0)
    assert drawn.shape == (3, 7, bundle.config.latent_dim)
    assert drawn.std(1).min() > 0
    pytest.importorskip("scipy")
    page = appendix_b(bundle, ["one two three", "four five six"], frames=4, samples=30, seed=0)
    assert [row["what"] for row in page.rows] == ["samples of one frame", "latents of speech"]
    assert len(page.data["w"]) == bundle.config.latent_dim


def test_a_page_is_a_table_a_drawing_and_the_papers_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    columns = (Column("name", "of"), Column("share", "share", ".1%"), Column("never", "never"))
    drawing = Drawing("D", [Panel("y", {"a": [(1, 2), (2, 3)]}, x_label="x"), Panel("z", bars={"b": 1.0})])
    rows = [{"name": "a", "share": 0.5}]
    page = Page("t", "Title", "Scale: small.", columns, rows, [{"name": "p"}], ["Note."], drawing)
    written = page.write(tmp_path / "out", "sled-tts evaluate t")
    text = written.read_text(encoding="utf-8")
    assert "| of | share |\n|---|---|\n| a | 50.0% |" in text
    assert "2505.13181" in text
    assert "![D](t.png)" in text
    assert (tmp_path / "out" / "t.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "out" / "t.json").read_text(encoding="utf-8"))["rows"] == rows
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ModelError, match="file"):
        page.write(tmp_path / "file", "x")


def test_commands_are_shown_without_the_machine() -> None:
    argv = ["/usr/bin/sled-tts", "evaluate", "table1", "--data", "/home/me/cuts.jsonl", "--limit", "3"]
    assert command_line(argv) == "sled-tts evaluate table1 --data cuts.jsonl --limit 3"
    assert command_line(["cli.py", "voice", "--model", "a/b"]) == "sled-tts evaluate voice --model a/b"


def test_recordings_belong_to_voices() -> None:
    found = [Utterance(str(i), "ann", f"text {i % 2}", Path("x.wav"), 1.0) for i in range(4)]
    assert [one.id for one in recordings_of(found, {"v": "ann"}, 5)["v"]] == ["2", "3"]
    with pytest.raises(ModelError, match="there are: ann"):
        recordings_of(found, {"v": "zoe"}, 5)
