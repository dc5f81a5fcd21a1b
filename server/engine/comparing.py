"""How far two runners of one network are apart, frame by frame, when both remember the same speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sled_tts.server.engine.request import Mode, SynthesisRequest
from sled_tts.server.engine.work import LAST_LATENT, RowWork


@dataclass(frozen=True)
class LatentError:
    """The root mean square of the difference over that of the latents: over all frames, and in the worst one."""

    overall: float
    worst_frame: float


def latent_error(exact: Any, rough: Any, *, streams: int, frames: int, tokens: int = 24, seed: int = 0) -> LatentError:
    """Two runners (`SledRunner` or `DeviceRunner`) speak the same random texts with the same noise, guided, whole texts
    first; after each frame the second is given the first one's latent, so that errors do not feed on themselves."""
    info = exact.info
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randint(3, info.vocab_size, (streams, tokens), generator=rng).tolist()
    texts = [tuple(ids) for ids in drawn]
    for slot, ids in enumerate(texts):
        request = SynthesisRequest(f"compare-{slot}", Mode.OFFLINE, seed + slot, 2.0, token_ids=ids)
        for runner in (exact, rough):
            runner.open(slot, request)
    rows: Sequence[RowWork] = [RowWork(slot, ids, (info.eos_id,)) for slot, ids in enumerate(texts)]
    differences, sizes = list[Tensor](), list[Tensor]()
    for frame in range(frames):
        for runner in (exact, rough):
            runner.step(rows)
        got = rough.state.latents[:streams, frame]
        want = exact.state.latents[:streams, frame].to(got.device)
        away, size = (got - want).square().mean(), want.square().mean()
        got.copy_(want)
        # Asking for the numbers also waits for the copy, which no runner's own stream would.
        differences.append(away.cpu())
        sizes.append(size.cpu())
        rows = [RowWork(slot, (LAST_LATENT,), (LAST_LATENT,)) for slot in range(streams)]
    all_away, all_size = torch.stack(differences), torch.stack(sizes)
    return LatentError(float((all_away.sum() / all_size.sum()).sqrt()), float((all_away / all_size).sqrt().max()))
