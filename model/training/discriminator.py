"""Multi-scale STFT discriminator for codec training (Encodec, arXiv 2210.13438, section 3.4 and figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


@dataclass(frozen=True)
class Judgement:
    """What one scale says of `[B, N]` waves: `logits [B, 1, T, F]` and the feature maps before them."""

    logits: Tensor
    features: list[Tensor]


class StftDiscriminator(nn.Module):
    """Two-dimensional convolutions over the complex STFT, real and imaginary part as channels.

    Time dilations 1, 2, 4 with a stride of two in frequency; leaky ReLU; weight norm.
    """

    window: Tensor

    def __init__(self, n_fft: int, filters: int = 32) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, n_fft // 4
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        layers = [nn.Conv2d(2, filters, (3, 9), padding=(1, 4))]
        layers += [
            nn.Conv2d(filters, filters, (3, 9), stride=(1, 2), dilation=(d, 1), padding=(d, 4)) for d in (1, 2, 4)
        ]
        layers += [nn.Conv2d(filters, filters, (3, 3), padding=(1, 1))]
        # PyTorch's default shrinks the signal in every layer until the logits are all bias.
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, a=0.2)
        self.layers = nn.ModuleList([weight_norm(layer) for layer in layers])
        self.out = weight_norm(nn.Conv2d(filters, 1, (3, 3), padding=(1, 1)))

    def forward(self, wave: Tensor) -> Judgement:
        """Under autocast the convolutions run in its precision; what comes out is always fp32."""
        spectrum = torch.stft(wave, self.n_fft, self.hop, window=self.window, normalized=True, return_complex=True)
        x = torch.view_as_real(spectrum).permute(0, 3, 2, 1)
        features: list[Tensor] = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x.float())
        return Judgement(self.out(x).float(), features)


class MultiScaleStftDiscriminator(nn.Module):
    """One discriminator a window length."""

    def __init__(self, windows: Sequence[int] = (2048, 1024, 512, 256, 128), filters: int = 32) -> None:
        super().__init__()
        self.scales = nn.ModuleList([StftDiscriminator(window, filters) for window in windows])

    def forward(self, wave: Tensor) -> list[Judgement]:
        return [scale(wave) for scale in self.scales]


def discriminator_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """Hinge loss, mean over scales."""
    losses = [F.relu(1 - r.logits).mean() + F.relu(1 + f.logits).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def generator_loss(fake: Sequence[Judgement]) -> Tensor:
    """Hinge loss of the decoder, mean over scales."""
    return torch.stack([F.relu(1 - f.logits).mean() for f in fake]).mean()


def feature_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """L1 distance of feature maps relative to the real ones' mean size, mean over layers and scales."""
    losses = [
        (a - b.detach()).abs().mean() / b.detach().abs().mean()
        for r, f in zip(real, fake, strict=True)
        for a, b in zip(f.features, r.features, strict=True)
    ]
    return torch.stack(losses).mean()
