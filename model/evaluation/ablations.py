"""Tables 3 and 5 by training: energy distance against RMSE, and amounts of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sled_tts.model.checkpoint import ModelBundle, load_bundle
from sled_tts.model.evaluation import published
from sled_tts.model.evaluation.arms import (
    Arm,
    Selection,
    normalised_as,
    read_curve,
    run_arm,
    small_training,
)
from sled_tts.model.evaluation.distribution import Liveliness, held_out_items, spread
from sled_tts.model.evaluation.drawing import Drawing, Panel
from sled_tts.model.evaluation.page import Column, Page
from sled_tts.model.speaking import lines_in, speak_lines
from sled_tts.model.training.batches import Corpus, Utterance
from sled_tts.model.training.loop import SledTraining

_COLUMNS = (
    Column("system", "arm"),
    Column("hours", "hours of speech", "g"),
    Column("steps", "steps", "d"),
    Column("wer_c", "WER-C", ".2%"),
    Column("energy", "energy distance, held out", ".2f"),
    Column("ratio", "scatter of samples / of the truth", ".2f"),
    Column("deviation", "deviation over time / real", ".2f"),
    Column("change", "change a frame / real", ".2f"),
    Column("closed_set", "right sentence", ".0%"),
    Column("wer_open", "WER (pocketsphinx)", ".0%"),
    Column("clips", "clips", "d"),
    Column("cut", "cut off", "d"),
)
_SPREAD_ITEMS = 16
Recognise = Callable[[Sequence[tuple[str, Any, int]]], tuple[float, float]]


@dataclass(frozen=True)
class Experiment:
    """Where arms are trained and how they are judged. `work`: as `sled-tts train` leaves it; `recognise`: closed-set
    accuracy and open word error rate of clips, None to leave them out; `texts` are spoken by each arm.

    Only networks that go on from a checkpoint are listened to: after some hundred steps from nothing there is nothing
    to understand yet.
    """

    work: Path
    arms: Path
    texts: Sequence[str]
    recognise: Recognise | None
    seed: int = 0
    noise_scale: float = 1.0

    def judged(self, bundle: ModelBundle, heard: Sequence[Utterance], *, listen: bool) -> dict[str, Any]:
        """A row about one network; `heard` are held-out utterances as it sees them."""
        lines = lines_in(bundle, bundle.voice(), self.texts)
        made = speak_lines(bundle, lines, cfg_scale=2.0, seed=self.seed, noise_scale=self.noise_scale)
        scattered = spread(bundle.sled, heard, self.seed)
        real = Liveliness.of([utterance.latents for utterance in heard])
        spoken = Liveliness.of([one.latents for one in made])
        row: dict[str, Any] = {
            "energy": scattered.energy, "ratio": scattered.ratio, "deviation": spoken.deviation / real.deviation,
            "change": spoken.change / real.change, "clips": len(made), "cut": sum(one.cut for one in made),
        }  # fmt: skip
        if self.recognise is not None and listen:
            rate = bundle.codec.config.sampling_rate
            clips = [(text, one.wave, rate) for text, one in zip(self.texts, made, strict=True)]
            row["closed_set"], row["wer_open"] = self.recognise(clips)
        return row

    def corpus(self, bundle: ModelBundle) -> Corpus:
        """The working folder's corpus as a network sees it."""
        config = bundle.config
        opened = Corpus.open(
            self.work / "corpus", self.work / "latents.npy", bundle.tokenizer, config.stream_n, config.stream_m
        )
        return normalised_as(opened, bundle.extras)

    def run(self, arm: Arm) -> dict[str, Any]:
        """Train an arm (or go on, or take it as it is) and judge it."""
        bundle = run_arm(arm, self.work, self.arms / arm.name)
        chosen = arm.selection
        heard = held_out_items(self.corpus(bundle), chosen.speaker, chosen.longest, _SPREAD_ITEMS)
        row = self.judged(bundle, heard, listen=arm.start is not None)
        return {"system": arm.name, "steps": arm.training.steps, **row}


def table_3(
    experiment: Experiment, start: str | None, tuned: tuple[int, Selection], fresh: tuple[int, Selection]
) -> Page:
    """Energy distance against RMSE: both arms from `start` (when given) for `tuned` steps, both from nothing for
    `fresh` steps (none at 0)."""
    rows: list[dict[str, Any]] = []
    arms: list[Arm] = []
    if start is not None:
        begun = load_bundle(start)
        heard = held_out_items(experiment.corpus(begun), tuned[1].speaker, tuned[1].longest, _SPREAD_ITEMS)
        rows.append({"system": "start of both", "steps": 0, **experiment.judged(begun, heard, listen=True)})
        arms += [
            Arm(f"start-{name}", _tuning(tuned[0], repulsion=repulsion), tuned[1], None, start)
            for name, repulsion in _OBJECTIVES
        ]
    if fresh[0]:
        arms += [
            Arm(f"fresh-{name}", small_training(fresh[0], repulsion=repulsion, positions=_SMALL), fresh[1])
            for name, repulsion in _OBJECTIVES
        ]
    rows += [experiment.run(arm) for arm in arms]
    curves = {arm.name: read_curve(experiment.arms / arm.name) for arm in arms}
    drawing = Drawing(
        "Energy distance against RMSE",
        [
            Panel("scatter of samples / of the truth", bars={row["system"]: row["ratio"] for row in rows}),
            Panel(
                "phones told from the states", {
                    name: [(step.step, step.phone_accuracy) for step in curve] for name, curve in curves.items()
                }, x_label="step",
            ),
        ],
    )  # fmt: skip
    return Page(
        "table3", "Table 3: energy distance against RMSE", _scale(experiment), _COLUMNS, rows, published.TABLE_3,
        [_EXPLANATION], drawing,
        {
            "start": None if start is None else Path(start).name, "its arms on": tuned[1], "fresh arms on": fresh[1],
            **_settings(experiment),
        },
        {name: [step.__dict__ for step in curve] for name, curve in curves.items()},
    )  # fmt: skip


def table_5(experiment: Experiment, steps: int, selections: Sequence[Selection]) -> Page:
    """The same training on more and more of the same speech."""
    arms = [Arm(f"fresh-{s.hours:g}h", small_training(steps, positions=_SMALL), s) for s in selections]
    rows = [{"hours": arm.selection.hours, **experiment.run(arm)} for arm in arms]
    curves = {arm.name: read_curve(experiment.arms / arm.name) for arm in arms}
    drawing = Drawing(
        "Data",
        [
            Panel(
                "energy distance, held out", {"": [(row["hours"], row["energy"]) for row in rows]},
                x_label="hours", log_x=True,
            ),
            Panel(
                "energy distance, training",
                {name: [(step.step, step.energy) for step in curve] for name, curve in curves.items()}, x_label="step",
            ),
        ],
    )  # fmt: skip
    note = (
        "The paper compares 1,000 with 50,000 hours and finds that 1,000 are enough for most of intelligibility and "
        "in-context learning; the numbers of its table were not found, so none stand beside."
    )
    return Page(
        "table5", "Table 5: amount of data", _scale(experiment), _COLUMNS, rows, notes=[note], drawing=drawing,
        settings={"speech": selections[0].speaker, **_settings(experiment)},
        data={name: [step.__dict__ for step in curve] for name, curve in curves.items()},
    )  # fmt: skip


_OBJECTIVES = (("energy", True), ("rmse", False))
# Padded positions of a batch of the fresh arms, and of those that go on from a checkpoint.
_SMALL, _TUNED = 800, 1200

_EXPLANATION = (
    "Scatter: the mean distance between two samples for the same frame, over that from a sample to the truth, the "
    "network reading true speech: 1 for a network that has learnt the distribution, 0 for one that always says the "
    "same. Deviation and change: of the latents that it speaks freely, over those of recordings; below 1 is monotone. "
    "The energy distance is measured with its repulsive term for every arm, whatever it was trained on; less is better."
)


def _tuning(steps: int, *, repulsion: bool) -> SledTraining:
    return small_training(steps, repulsion=repulsion, prompts=0.9, lr=6e-4, positions=_TUNED)


def _settings(experiment: Experiment) -> dict[str, Any]:
    return {"guidance": 2.0, "noise scale": experiment.noise_scale, "seed": experiment.seed}


def _scale(experiment: Experiment) -> str:
    return (
        f"Scale: minutes of training on one processor core, {len(experiment.texts)} sentences spoken by each arm; the "
        "paper's networks are 200 times as large and trained for 300,000 steps on 50,000 h."
    )
