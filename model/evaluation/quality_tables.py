"""Tables 1 and 2 and Figure 3: what is heard of a checkpoint under the paper's settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sled_tts.model.checkpoint import ModelBundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation import published
from sled_tts.model.evaluation.drawing import Drawing
from sled_tts.model.evaluation.drawing import Panel as Axes
from sled_tts.model.evaluation.judges import Wave
from sled_tts.model.evaluation.page import Column, Page
from sled_tts.model.evaluation.prompting import Setting, prompt_recordings, prompted_lines, through_codec
from sled_tts.model.evaluation.scoring import SCORE_COLUMNS, Clip, Panel, measured
from sled_tts.model.evaluation.utterances import Utterance
from sled_tts.model.speaking import lines_in, speak_lines


@dataclass(frozen=True)
class Protocol:
    """A test set and how it is spoken and judged."""

    utterances: Sequence[Utterance]
    panel: Panel
    cfg_scale: float = 2.0
    seed: int = 0
    prefix_s: float = 3.0
    batch: int = 8

    @property
    def scale(self) -> str:
        """The test set in words."""
        seconds = sum(one.duration_s for one in self.utterances)
        speakers = len({one.speaker for one in self.utterances})
        lengths = [one.duration_s for one in self.utterances]
        return (
            f"{len(self.utterances)} utterances of {speakers} speakers, {min(lengths):.1f} to {max(lengths):.1f} s, "
            f"{seconds / 60:.1f} minutes (the paper: LibriSpeech-PC test-clean, 1,154 utterances of 4 to 10 s)"
        )

    def recorded(self, setting: Setting, rate: int) -> list[Clip]:
        """The recordings themselves; in the prefix setting the voice is that after the prefix."""
        prompts = prompt_recordings(self.utterances, setting, rate, self.prefix_s)
        return [
            self._clip(one.text, one.wave(rate), prompt, setting, rate)
            for one, prompt in zip(self.utterances, prompts, strict=True)
        ]

    def resynthesised(self, bundle: ModelBundle, setting: Setting) -> list[Clip]:
        """The recordings through the codec and back."""
        rate = bundle.codec.config.sampling_rate
        prompts = prompt_recordings(self.utterances, setting, rate, self.prefix_s)
        return [
            self._clip(one.text, through_codec(bundle, one.wave(rate)), prompt, setting, rate)
            for one, prompt in zip(self.utterances, prompts, strict=True)
        ]

    def spoken(
        self, bundle: ModelBundle, setting: Setting, *, cfg_scale: float | None = None,
        pacing: tuple[int, int] | None = None,
    ) -> list[Clip]:  # fmt: skip
        """The utterances' texts, spoken; without a prompt in the checkpoint's default voice, if it has any."""
        rate = bundle.codec.config.sampling_rate
        prompts = prompt_recordings(self.utterances, setting, rate, self.prefix_s)
        lines = prompted_lines(bundle, self.utterances, setting, prompts)
        own = bundle.voice()
        if setting is Setting.NONE and own is not None:
            lines = lines_in(bundle, own, [line.text for line in lines])
        made = speak_lines(
            bundle, lines, cfg_scale=self.cfg_scale if cfg_scale is None else cfg_scale, seed=self.seed,
            pacing=pacing, batch=self.batch,
        )  # fmt: skip
        return [
            Clip(
                one.text, said.whole if setting is Setting.PREFIX else said.wave, said.wave, rate, prompt, said.cut
            )
            for one, said, prompt in zip(self.utterances, made, prompts, strict=True)
        ]  # fmt: skip

    def _clip(self, text: str, wave: Wave, prompt: Wave | None, setting: Setting, rate: int) -> Clip:
        after = wave[round(self.prefix_s * rate) :] if setting is Setting.PREFIX else wave
        return Clip(text, wave, after, rate, prompt)


def table_1(protocol: Protocol, bundle: ModelBundle, notes: Sequence[str] = ()) -> Page:
    """Zero-shot speech under both prompt settings, beside the recordings and their resynthesis."""
    rate = bundle.codec.config.sampling_rate
    rows: list[dict[str, Any]] = []
    for setting in (Setting.PREFIX, Setting.REFERENCE):
        named = setting.value if setting is Setting.REFERENCE else f"{protocol.prefix_s:g} s prefix"
        for system, clips in (
            ("recordings", protocol.recorded(setting, rate)),
            ("recordings through the codec", protocol.resynthesised(bundle, setting)),
            (f"{bundle.name}, {_mode(bundle)}", protocol.spoken(bundle, setting)),
        ):
            rows.append({"setting": named, "system": system, **protocol.panel.score(clips)})
    return Page(
        "table1", "Table 1: two prompt settings", f"Scale: {protocol.scale}; checkpoint `{bundle.name}`.",
        (Column("setting", "prompt"), Column("system", "speech"), *SCORE_COLUMNS), rows, published.TABLE_1, notes,
        _bars("Table 1", rows, lambda row: f"{row['setting'].split()[0]}: {row['system']}"), _settings(protocol),
    )  # fmt: skip


def table_2(
    protocol: Protocol, bundles: Sequence[ModelBundle], pacings: Sequence[tuple[int, int]], notes: Sequence[str] = ()
) -> Page:
    """Offline and streaming without a prompt; `pacings` are tried on every streaming checkpoint, its own by default."""
    rows = []
    for bundle in bundles:
        tried: Sequence[tuple[int, int] | None] = (pacings or [None]) if bundle.is_streaming else [None]
        for pacing in tried:
            clips = protocol.spoken(bundle, Setting.NONE, pacing=pacing)
            rows.append({"system": f"{bundle.name}, {_mode(bundle, pacing)}", **protocol.panel.score(clips)})
    return Page(
        "table2", "Table 2: offline and streaming", f"Scale: {protocol.scale}, texts only.",
        (Column("system", "speech"), *SCORE_COLUMNS), rows, published.TABLE_2, notes,
        _bars("Table 2", rows, lambda row: str(row["system"])), _settings(protocol),
    )  # fmt: skip


def figure_3(protocol: Protocol, bundle: ModelBundle, scales: Sequence[float], setting: Setting) -> Page:
    """Guidance: recognition, similarity and quality over lambda."""
    if not scales:
        raise ModelError("no guidance scale to try", param="cfg-scale")
    rows: list[dict[str, Any]] = []
    for scale in scales:
        clips = protocol.spoken(bundle, setting, cfg_scale=scale)
        rows.append({"cfg_scale": scale, **protocol.panel.score(clips)})
    panels = [
        Axes(c.title, {c.title: [(row["cfg_scale"], row[c.key]) for row in rows]}, x_label="guidance")
        for c in measured(rows)
    ]
    return Page(
        "figure3", "Figure 3: guidance",
        f"Scale: {protocol.scale}; checkpoint `{bundle.name}`, {_mode(bundle)}, prompt: {setting.value}.",
        (Column("cfg_scale", "lambda", "g"), *SCORE_COLUMNS), rows, (), [published.FIGURE_3],
        Drawing("Guidance", panels), _settings(protocol) | {"guidance": "as in the rows"},
    )  # fmt: skip


def _mode(bundle: ModelBundle, pacing: tuple[int, int] | None = None) -> str:
    n, m = pacing or (bundle.config.stream_n, bundle.config.stream_m)
    return "offline" if n is None else f"streaming {n}:{m}"


def _settings(protocol: Protocol) -> dict[str, Any]:
    return {"guidance": protocol.cfg_scale, "seed": protocol.seed}


def _bars(title: str, rows: Sequence[dict[str, Any]], label: Callable[[dict[str, Any]], str]) -> Drawing:
    panels = [
        Axes(c.title, bars={label(row): row[c.key] for row in rows if row.get(c.key) is not None})
        for c in measured(rows)
    ]
    return Drawing(title, panels)
