"""Appendix B: is what the network samples Gaussian? Shapiro-Wilk for each latent dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sled_tts.model.checkpoint import ModelBundle
from sled_tts.model.errors import ModelError
from sled_tts.model.evaluation.drawing import Drawing, Panel
from sled_tts.model.evaluation.page import Column, Page
from sled_tts.model.speaking import lines_in, speak_lines

# Beyond this, the p-value of the test is not exact (Royston 1995), and everything is significant.
_MOST = 5000
_LEVEL = 0.05


@dataclass(frozen=True)
class Normality:
    """`w [D]` and `p [D]` of one set of samples."""

    w: npt.NDArray[np.float64]
    p: npt.NDArray[np.float64]

    @classmethod
    def of(cls, samples: npt.NDArray[np.float32]) -> Normality:
        """Of `samples [N, D]`, 3 <= N <= 5000. ModelError without scipy."""
        try:
            from scipy.stats import shapiro
        except ImportError as error:
            raise ModelError(f"{error}; install the eval extra: pip install '.[eval]'") from error
        if not 3 <= len(samples) <= _MOST:
            raise ModelError(f"Shapiro-Wilk takes 3 to {_MOST} samples, got {len(samples)}", param="samples")
        tested = [shapiro(column.astype(np.float64)) for column in samples.T]
        return cls(np.array([t.statistic for t in tested]), np.array([t.pvalue for t in tested]))

    @property
    def rejected(self) -> float:
        """Share of dimensions whose normality is rejected at 5 %."""
        return float((self.p < _LEVEL).mean())


@torch.inference_mode()
def conditional_samples(bundle: ModelBundle, states: Tensor, count: int, seed: int) -> Tensor:
    """`count` samples `[F, count, D]` of the generator at each of `states [F, H]`, noise at scale 1."""
    rng = torch.Generator().manual_seed(seed)
    channels = bundle.config.generator.noise_channels
    return torch.stack(
        [bundle.sled.generator(z.expand(count, -1), torch.randn(count, channels, generator=rng)) for z in states]
    )


def appendix_b(bundle: ModelBundle, texts: Sequence[str], frames: int, samples: int, seed: int) -> Page:
    """Samples of many frames, each under its own condition; and latents of speech, whatever the condition."""
    spoken = speak_lines(bundle, lines_in(bundle, bundle.voice(), texts), cfg_scale=2.0, seed=seed, trace=True)
    states = torch.cat([one.states for one in spoken if one.states is not None])
    picked = states[torch.linspace(0, len(states) - 1, frames).long()]
    drawn = conditional_samples(bundle, picked, samples, seed).numpy()
    conditional = [Normality.of(block) for block in drawn]
    everything = torch.cat([one.latents for one in spoken]).numpy()
    kept = everything[np.random.default_rng(seed).permutation(len(everything))[:_MOST]]
    marginal = Normality.of(kept)
    by_dimension = np.mean([one.w for one in conditional], axis=0)
    rejected = np.mean([one.p < _LEVEL for one in conditional], axis=0)
    rows = [
        {
            "what": "samples of one frame", "sets": len(conditional), "n": samples,
            "w": float(np.mean([one.w for one in conditional])), "least": float(by_dimension.min()),
            "rejected": float(rejected.mean()),
        },
        {
            "what": "latents of speech", "sets": 1, "n": len(kept), "w": float(marginal.w.mean()),
            "least": float(marginal.w.min()), "rejected": marginal.rejected,
        },
    ]  # fmt: skip
    columns = (
        Column("what", "of"), Column("sets", "sets", "d"), Column("n", "samples a set", "d"),
        Column("w", "mean W", ".4f"), Column("least", "least W of a dimension", ".4f"),
        Column("rejected", "rejected at 5 %", ".0%"),
    )  # fmt: skip
    lines_drawn = {
        "samples of one frame": list(enumerate(sorted(by_dimension.tolist()))),
        "latents of speech": list(enumerate(sorted(marginal.w.tolist()))),
    }
    note = (
        "W is 1 for a Gaussian. For Gaussian samples 5 % of the tests would be rejected by chance. The paper's figures "
        "of this appendix were not found, so none stand beside."
    )
    return Page(
        "appendix-b", "Appendix B: Shapiro-Wilk for each latent dimension",
        f"Scale: checkpoint `{bundle.name}`, {bundle.config.latent_dim} dimensions, {len(texts)} sentences.",
        columns, rows, notes=[note],
        drawing=Drawing("Shapiro-Wilk", [Panel("W", lines_drawn, x_label="dimension, sorted")]),
        settings={"guidance": 2.0, "seed": seed},
        data={
            "w": by_dimension.round(5).tolist(), "rejected": rejected.round(4).tolist(),
            "speech_w": marginal.w.round(5).tolist(),
        },
    )  # fmt: skip
