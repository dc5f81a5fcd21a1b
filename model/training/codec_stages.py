"""The stages of a recipe that make its codec: train or take one, polish its decoder, tune it to the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.training.codec_loop import CodecReport, train_codec
from sled_tts.model.training.data.shards import ShardIndex, codec_sha256
from sled_tts.model.training.growth import grow_decoder
from sled_tts.model.training.polish import Polish, PolishReport, polish_decoder
from sled_tts.model.training.recipe import Recipe

CODEC, POLISHED, TUNED, ALIGNED = "codec", "codec-polished", "codec-tuned", "aligned.npy"
# (stage, done, of, figures)
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class CodecStages:
    """What `recipe` says about the codec, done in `work`; `progress` hears of every report."""

    recipe: Recipe
    work: Path
    progress: Progress

    def train(self, out: Path) -> None:
        """A new codec of the corpus, or a copy of the recipe's `source`. Raises ModelError when that has another shape,
        or is not the one the shards were encoded with."""
        codec, shards = self.recipe.codec, self.recipe.data.shards
        if codec.source is not None:
            ready = Codec.load(Path(codec.source))
            if ready.config != codec.config:
                raise ModelError(f"the codec in {codec.source} is {ready.config}, codec.config says {codec.config}")
            if shards is not None and codec_sha256(ready) != ShardIndex.load(Path(shards)).codec_sha256:
                raise ModelError(f"{shards} was encoded with another codec", param="codec.source")
            ready.save(out)
            return

        def report(step: CodecReport) -> None:
            figures = f"loss {step.loss:.3f}  snr {step.snr:.1f} dB"
            self.progress(CODEC, step.step, codec.training.steps, figures)

        train_codec(self.work / "corpus", codec.config, codec.training, out, report=report)

    def polish(self, out: Path) -> None:
        assert self.recipe.codec.polish is not None
        self._train_decoder(CODEC, POLISHED, self.recipe.codec.polish, out)

    def tune(self, out: Path) -> None:
        """Needs the network's samples in `ALIGNED`."""
        assert self.recipe.codec.tune is not None
        source = POLISHED if self.recipe.codec.polish is not None else CODEC
        self._train_decoder(source, TUNED, self.recipe.codec.tune, out, self.work / ALIGNED)

    def last(self) -> Codec:
        """What the last of these stages made."""
        return Codec.load(next(path for name in (TUNED, POLISHED, CODEC) if (path := self.work / name).exists()))

    def _train_decoder(self, source: str, stage: str, how: Polish, out: Path, aligned: Path | None = None) -> None:
        def report(step: PolishReport) -> None:
            figures = f"mel {step.mel:.3f}  feature {step.feature:.3f}  discriminator {step.discriminator:.3f}"
            self.progress(stage, step.step, how.steps, figures)

        codec = Codec.load(self.work / source)
        if how.residual_layers is not None:
            torch.manual_seed(how.seed)
            codec = grow_decoder(codec, how.residual_layers)
        polish_decoder(self.work / "corpus", codec, how, out, aligned=aligned, report=report)
