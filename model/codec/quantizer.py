"""Residual vector quantiser: inference, and fitting of codebooks by residual k-means."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualVectorQuantizer(nn.Module):
    """`n_q` Euclidean codebooks applied to what the previous ones left over (Encodec, section 3.2).

    `codebooks` has shape `[n_q, codebook_size, D]`.
    """

    codebooks: Tensor

    def __init__(self, n_q: int, codebook_size: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.zeros(n_q, codebook_size, dimension))

    def encode(self, latents: Tensor) -> Tensor:
        """`[B, S, D] -> codes [B, n_q, S]` (int64), nearest code per stage, ties to the lowest index."""
        residual, codes = latents, []
        for book in self.codebooks:
            # Same arithmetic as the reference, so that near-ties fall the same way.
            flat = residual.reshape(-1, residual.shape[-1])
            distance = -(flat.pow(2).sum(1, keepdim=True) - 2 * flat @ book.t() + book.t().pow(2).sum(0))
            index = distance.max(dim=-1).indices.view(residual.shape[:-1])
            residual = residual - nn.functional.embedding(index, book)
            codes.append(index)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[B, n_q, S]` to the sum of their embeddings, `[B, S, D]`."""
        total = torch.zeros((), device=codes.device)
        for stage, index in enumerate(codes.unbind(1)):
            total = total + nn.functional.embedding(index, self.codebooks[stage])
        return total

    @torch.no_grad()
    def fit(self, latents: Tensor, *, iterations: int = 12, seed: int = 0) -> list[float]:
        """Fit the codebooks to `[N, D]` latents by k-means on the residuals.

        Returns the remaining mean squared error per element after each stage.
        """
        generator = torch.Generator().manual_seed(seed)
        n_q, size, _ = self.codebooks.shape
        if latents.shape[0] < size:
            raise ValueError(f"fitting {size} codes needs at least as many latents, got {latents.shape[0]}")
        residual, errors = latents.clone(), []
        for stage in range(n_q):
            book = residual[torch.randperm(len(residual), generator=generator)[:size]].clone()
            for _ in range(iterations):
                index = torch.cdist(residual, book).argmin(1)
                counts = torch.bincount(index, minlength=size)
                sums = torch.zeros_like(book).index_add_(0, index, residual)
                alive = counts > 0
                book[alive] = sums[alive] / counts[alive, None]
                # A code nobody uses restarts at a random residual.
                dead = int((~alive).sum())
                if dead:
                    book[~alive] = residual[torch.randint(len(residual), (dead,), generator=generator)]
            index = torch.cdist(residual, book).argmin(1)
            residual = residual - book[index]
            self.codebooks[stage] = book
            errors.append(float(residual.pow(2).mean()))
        return errors
