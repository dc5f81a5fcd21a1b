"""What goes into which shard: decided from the manifest alone, and written down before anything is encoded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.errors import ModelError
from sled_tts.model.training.data.shards import STORES, codec_sha256, file_sha256
from sled_tts.model.training.manifests import Limits, ManifestReport, scan_manifest
from sled_tts.model.training.recordings import Preparation
from sled_tts.model.training.resume import refuse_changes

PLAN = "plan.json"


@dataclass(frozen=True)
class Encoding:
    """`store`: `codes` (RVQ indices) or `latents` (what the encoder gives, fp16). `shard_mb` bounds the frames of a
    shard in MiB. `batch_s`: how much speech is encoded together, padded at its end (on a GPU; on a CPU one utterance
    at a time is as fast). `skip_bad`: go on without cuts that cannot be used."""

    store: str = "codes"
    shard_mb: float = 64.0
    batch_s: float = 0.0
    skip_bad: bool = False
    limits: Limits = field(default_factory=Limits)
    how: Preparation = field(default_factory=lambda: Preparation(level=0, trim=False, lock_pitch=False, align=False))

    def __post_init__(self) -> None:
        if self.store not in STORES:
            raise ModelError(f"store must be one of {', '.join(STORES)}, got {self.store!r}", param="store")
        if not self.shard_mb > 0:
            raise ModelError(f"shard_mb must be more than 0, got {self.shard_mb}", param="shard_mb")

    def frame(self, config: CodecConfig) -> tuple[int, np.dtype[Any]]:
        """How many numbers a frame has, and of which type. Raises ModelError for codes of more than 16 bits."""
        if self.store == "latents":
            return config.dimension, np.dtype(np.float16)
        if config.codebook_size > 2**16:
            raise ModelError(f"codebooks of {config.codebook_size} entries do not fit 16 bits", param="codec")
        return config.n_q, np.dtype(np.uint8 if config.codebook_size <= 2**8 else np.uint16)

    def settings(self, manifest: Path, codec: Codec) -> dict[str, Any]:
        """What decides the content of the shards."""
        plain = asdict(self)
        del plain["skip_bad"]
        plain |= {"manifest": file_sha256(manifest), "codec": codec_sha256(codec)}
        # Through JSON, as what it is compared with has been.
        return dict(json.loads(json.dumps(plain)))


@dataclass(frozen=True)
class Planned:
    """One shard to be: how many usable cuts, the first of them, and all their seconds."""

    cuts: int
    first: str
    seconds: float


def divide(
    manifest: Path, encoding: Encoding, config: CodecConfig, report: ManifestReport, root: Path | None
) -> list[Planned]:
    """The usable cuts of a manifest in shards of no more than `encoding.shard_mb`; the others go into `report`."""
    width, kind = encoding.frame(config)
    most = encoding.shard_mb * 2**20 / (width * kind.itemsize + (1 if encoding.how.align else 0))
    plan: list[Planned] = []
    cuts, first, seconds, frames = 0, "", 0.0, 0
    for cut in scan_manifest(manifest, encoding.limits, report, root):
        own = math.ceil(cut.duration * config.frame_rate) + 1
        if cuts and frames + own > most:
            plan.append(Planned(cuts, first, seconds))
            cuts, seconds, frames = 0, 0.0, 0
        cuts, first = cuts + 1, first if cuts else cut.id
        seconds, frames = seconds + cut.duration, frames + own
    return [*plan, Planned(cuts, first, seconds)] if cuts else plan


def read_plan(path: Path, settings: Mapping[str, Any]) -> list[Planned]:
    """Raises ModelError when it cannot be read or was made with other settings."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        plan, begun = [Planned(**planned) for planned in found["shards"]], dict(found["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read: {error}; remove it to start anew") from error
    refuse_changes(path, begun, settings)
    return plan
