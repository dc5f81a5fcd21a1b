"""Spectral losses for codec training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sled_tts.model.mel import mel_filterbank


class MelLoss(nn.Module):
    """Log and relative linear mel distance over several window sizes; waves are `[B, N]`."""

    def __init__(
        self, sampling_rate: int, scales: tuple[tuple[int, int], ...] = ((256, 20), (512, 40), (1024, 80))
    ) -> None:
        super().__init__()
        self.scales = scales
        for n_fft, bands in scales:
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft))
            self.register_buffer(f"filters_{n_fft}", mel_filterbank(sampling_rate, n_fft, bands))

    def power(self, wave: Tensor, n_fft: int, hop: int | None = None) -> Tensor:
        """Mel power `[B, bands, frames]`; the hop is a quarter window unless given."""
        window, filters = self.get_buffer(f"window_{n_fft}"), self.get_buffer(f"filters_{n_fft}")
        spectrum = torch.stft(wave, n_fft, hop or n_fft // 4, window=window, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        return filters @ power * (4 / window.square().sum())

    def forward(self, got: Tensor, want: Tensor) -> Tensor:
        total = torch.zeros((), device=got.device)
        for n_fft, _ in self.scales:
            a, b = self.power(got, n_fft), self.power(want, n_fft)
            total = total + ((a + 1e-6).log10() - (b + 1e-6).log10()).abs().mean()
            root_a, root_b = (a + 1e-8).sqrt(), (b + 1e-8).sqrt()
            total = total + (root_a - root_b).abs().mean() / (root_b.mean() + 1e-3)
        return total / len(self.scales)


def waveform_loss(got: Tensor, want: Tensor, pre_emphasis: float = 0.95) -> Tensor:
    """Relative L1 + L2 error of the waves `[B, N]`, and of their pre-emphasised form (which weighs the
    formants against the louder fundamental)."""

    def emphasise(x: Tensor) -> Tensor:
        return x[..., 1:] - pre_emphasis * x[..., :-1]

    def relative(a: Tensor, b: Tensor) -> Tensor:
        error = a - b
        return error.abs().mean() / b.abs().mean() + error.square().mean().sqrt() / b.square().mean().sqrt()

    return 0.4 * relative(got, want) + 0.6 * relative(emphasise(got), emphasise(want))
