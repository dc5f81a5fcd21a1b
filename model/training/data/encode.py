"""A manifest to shards, once: `sled-tts data encode`.

What goes into which shard follows from the manifest alone and is written down first. So any shard can be made by
itself: several processes can share the work, and an interrupted one makes what is missing or damaged, with the bytes
it would have had.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from lhotse import MonoCut
from safetensors.torch import save_file

from sled_tts.model.codec.codec import Codec
from sled_tts.model.errors import ModelError
from sled_tts.model.training.data.plan import PLAN, Encoding, Planned, divide, read_plan
from sled_tts.model.training.data.shards import (
    CODEBOOKS,
    ShardEntry,
    ShardIndex,
    codec_sha256,
    file_sha256,
    write_json,
    write_shard,
)
from sled_tts.model.training.manifests import ManifestReport, scan_manifest
from sled_tts.model.training.recordings import Piece, Preparer
from sled_tts.model.training.resume import write_atomically
from sled_tts.model.training.synthetic import CorpusItem


@dataclass(frozen=True)
class Encoder:
    """Encodes `manifest` into `out`. `say` hears lines, `progress` the shards done, of how many."""

    manifest: Path
    out: Path
    codec: Codec
    encoding: Encoding
    root: Path | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    say: Callable[[str], None] = lambda text: None
    progress: Callable[[int, int], None] = lambda done, of: None

    def run(self, part: int = 0, parts: int = 1) -> ShardIndex | None:
        """Make every `parts`-th shard from the `part`-th on, those that are not there already; the index once all are,
        None before. Raises ModelError for a bad manifest (unless `skip_bad`), audio that cannot be read, a full disk
        and for a folder that was begun with other settings; finished shards stay."""
        if not 0 <= part < parts:
            raise ModelError(f"part must be within 0..{parts - 1}, got {part}", param="part")
        codec = self.codec.to(self.device).eval()
        how = self.encoding.how
        if (how.rate, how.hop) != (codec.config.sampling_rate, codec.config.hop_length):
            raise ModelError(f"prepared at {how.rate} Hz by {how.hop}, but the codec is {codec.config}", param="codec")
        plan, preparer = self._plan(), None
        cuts = scan_manifest(self.manifest, self.encoding.limits, ManifestReport(), self.root)
        for number, planned in enumerate(plan):
            mine = list(islice(cuts, planned.cuts))
            if len(mine) < planned.cuts or mine[0].id != planned.first:
                raise ModelError(f"recordings have gone since {self.out / PLAN} was made: shard {number} lacks some")
            if number % parts == part:
                if self._entry(number, check=True) is None:
                    preparer = preparer or Preparer.create(self._all_cuts(), how)
                    self._make(number, mine, preparer)
                self.progress(number // parts + 1, math.ceil((len(plan) - part) / parts))
        entries = [self._entry(number, check=False) for number in range(len(plan))]
        done = [entry for entry in entries if entry is not None]
        if len(done) < len(plan):
            self.say(f"{len(done)} of {len(plan)} shards; the index follows when all are there")
            return None
        settings = self.encoding.settings(self.manifest, codec)
        index = ShardIndex(self.encoding.store, codec.config.to_dict(), codec_sha256(codec), settings, tuple(done))
        index.save(self.out)
        return index

    def _all_cuts(self) -> Iterator[MonoCut]:
        return scan_manifest(self.manifest, self.encoding.limits, ManifestReport(), self.root)

    def _plan(self) -> list[Planned]:
        """As it was made, or made now."""
        if not self.manifest.is_file():
            raise ModelError(f"no manifest at {self.manifest}", param="manifest")
        settings = self.encoding.settings(self.manifest, self.codec)
        path = self.out / PLAN
        if path.exists():
            return read_plan(path, settings)
        report = ManifestReport()
        plan = divide(self.manifest, self.encoding, self.codec.config, report, self.root)
        self.say(f"{self.manifest.name}: {report}; {len(plan)} shards")
        if report.problems and not self.encoding.skip_bad:
            raise ModelError(
                f"{self.manifest}: {report}\nsome cuts cannot be used; mend them, or skip them with skip_bad",
                param="manifest",
            )
        if not plan:
            raise ModelError(f"{self.manifest}: {report}", param="manifest")
        if self.encoding.store == "codes":
            books = self.codec.quantizer.codebooks.cpu().contiguous()
            # Those who share the work may all be here at once, with the same.
            there = self.out / CODEBOOKS
            write_atomically(there, lambda partial: save_file({"codebooks": books}, partial), shared=True)
        write_json(path, {"settings": settings, "shards": [asdict(planned) for planned in plan]})
        return plan

    def _entry(self, number: int, *, check: bool) -> ShardEntry | None:
        """What is said of a shard that was made, None when it has to be made (again)."""
        beside = self.out / f"{_name(number)}.json"
        try:
            entry = ShardEntry(**json.loads(beside.read_text(encoding="utf-8")))
            if check:
                entry.verify(self.out)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, ModelError) as error:
            self.say(f"{_name(number)} is made again: {error}")
            return None
        return entry

    def _make(self, number: int, cuts: list[MonoCut], preparer: Preparer) -> None:
        faults, pieces = ManifestReport(), list[Piece]()
        encoded: list[np.ndarray] = []
        items: list[CorpusItem] = []
        for cut in cuts:
            try:
                pieces += preparer.pieces(cut)
            except ModelError as error:
                if not self.encoding.skip_bad:
                    raise
                self.say(str(error))
                faults.add("audio that cannot be read", cut.id)
        offset = 0
        for batch in _batches(pieces, self.encoding.batch_s * self.codec.config.sampling_rate):
            encoded += self._encode(batch)
        for index, piece in enumerate(pieces):
            frames = len(encoded[index])
            items.append(CorpusItem(index, piece.text, offset, frames, piece.labels, piece.speaker))
            offset += frames
        width, kind = self.encoding.frame(self.codec.config)
        together = np.concatenate(encoded) if encoded else np.zeros((0, width), dtype=kind)
        path = self.out / f"{_name(number)}.safetensors"
        phones = write_shard(path, self.encoding.store, items, together)
        latents = self._latents(together)
        entry = ShardEntry(
            path.name, path.stat().st_size, file_sha256(path), len(items), len(together), phones,
            latents.sum(0).tolist(), float(np.square(latents).sum()),
            {kind: [*found] for kind, found in faults.problems.items()},
        )  # fmt: skip
        write_json(self.out / f"{_name(number)}.json", asdict(entry))

    @torch.inference_mode()
    def _encode(self, batch: list[Piece]) -> list[np.ndarray]:
        """Codes or latents of utterances, each `[frames, width]`."""
        hop = self.codec.config.hop_length
        waves = torch.zeros(len(batch), 1, max(len(piece.samples) for piece in batch))
        for row, piece in enumerate(batch):
            waves[row, 0, : len(piece.samples)] = torch.from_numpy(piece.samples.astype(np.float32) / 32768)
        waves = waves.to(self.device)
        codes = self.encoding.store == "codes"
        made = self.codec.encode_codes(waves).transpose(1, 2) if codes else self.codec.encode_unquantised(waves)
        rows = made.cpu().numpy().astype(self.encoding.frame(self.codec.config)[1])
        return [rows[row, : len(piece.samples) // hop] for row, piece in enumerate(batch)]

    def _latents(self, frames: np.ndarray) -> np.ndarray:
        """`[F, D]` float64."""
        if self.encoding.store == "codes":
            codes = torch.from_numpy(frames.astype(np.int64)).T[None].to(self.device)
            frames = self.codec.quantizer.decode(codes)[0].cpu().numpy()
        return frames.astype(np.float64)


def _name(number: int) -> str:
    return f"shard-{number:05d}"


def _batches(pieces: list[Piece], samples: float) -> Iterator[list[Piece]]:
    """In order, at least one, padded to no more than `samples` together."""
    batch: list[Piece] = []
    longest = 0
    for piece in pieces:
        longest = max(longest, len(piece.samples))
        if batch and longest * (len(batch) + 1) > samples:
            yield batch
            batch, longest = [], len(piece.samples)
        batch.append(piece)
    if batch:
        yield batch
