"""SEANet encoder and decoder of the Encodec architecture (arXiv 2210.13438), causal with reflect padding.

Weights are plain (weight norm is folded when a checkpoint is read), under the module paths of the
`encodec` package: `encoder.model.0.conv.conv.weight`, `decoder.model.3.convtr.convtr.weight`, ...
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sled_tts.model.codec.config import CodecConfig


def reflect_pad(x: Tensor, left: int, right: int) -> Tensor:
    """Reflect-pad the last axis, also when it is shorter than the padding (then zeros are appended
    first and cut off afterwards, as Encodec does)."""
    longest = max(left, right)
    extra = max(0, longest - x.shape[-1] + 1)
    padded = F.pad(F.pad(x, (0, extra)) if extra else x, (left, right), mode="reflect")
    return padded[..., : padded.shape[-1] - extra] if extra else padded


class _Inner(nn.Module):
    """Holds one convolution under the package's doubled name (`conv.conv`)."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.add_module(name, module)


class CausalConv1d(nn.Module):
    """Strided causal convolution; `[B, C_in, N] -> [B, C_out, ceil(N / stride)]`."""

    def __init__(self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.span = (kernel - 1) * dilation + 1
        self.conv = _Inner("conv", nn.Conv1d(c_in, c_out, kernel, stride, dilation=dilation))

    @property
    def inner(self) -> nn.Conv1d:
        conv = self.conv.get_submodule("conv")
        assert isinstance(conv, nn.Conv1d)
        return conv

    @property
    def left_context(self) -> int:
        """Input samples before the current ones that the first output needs."""
        return self.span - self.stride

    def forward(self, x: Tensor) -> Tensor:
        ragged_end = -x.shape[-1] % self.stride
        if self.left_context or ragged_end:
            x = reflect_pad(x, self.left_context, ragged_end)
        out: Tensor = self.inner(x)
        return out


class CausalConvTranspose1d(nn.Module):
    """Transposed convolution trimmed on the right; `[B, C_in, N] -> [B, C_out, N * stride]`."""

    def __init__(self, c_in: int, c_out: int, kernel: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.overlap = kernel - stride
        self.convtr = _Inner("convtr", nn.ConvTranspose1d(c_in, c_out, kernel, stride))

    @property
    def inner(self) -> nn.ConvTranspose1d:
        conv = self.convtr.get_submodule("convtr")
        assert isinstance(conv, nn.ConvTranspose1d)
        return conv

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out[..., : out.shape[-1] - self.overlap]


class ResidualLSTM(nn.Module):
    """LSTM over time with a skip connection; `[B, C, N] -> [B, C, N]`."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.permute(2, 0, 1)
        out: Tensor = self.lstm(steps)[0]
        return (out + steps).permute(1, 2, 0)


class ResidualBlock(nn.Module):
    """ELU, dilated convolution, ELU, 1x1 convolution, beside a 1x1 convolution as shortcut."""

    def __init__(self, channels: int, kernel: int, dilation: int, compress: int) -> None:
        super().__init__()
        hidden = channels // compress
        self.block = nn.Sequential(
            nn.ELU(),
            CausalConv1d(channels, hidden, kernel, dilation=dilation),
            nn.ELU(),
            CausalConv1d(hidden, channels, 1),
        )
        self.shortcut = CausalConv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.block(x)
        return out


def _residual_stack(config: CodecConfig, channels: int, layers: int) -> list[nn.Module]:
    return [
        ResidualBlock(channels, config.residual_kernel_size, config.dilation_base**j, config.compress)
        for j in range(layers)
    ]


class SEANetEncoder(nn.Module):
    """Wave `[B, 1, N]` to unquantised latents `[B, D, ceil(N / hop)]`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.n_filters
        layers: list[nn.Module] = [CausalConv1d(config.channels, channels, config.kernel_size)]
        for ratio in reversed(config.ratios):
            layers += _residual_stack(config, channels, config.n_residual_layers)
            layers += [nn.ELU(), CausalConv1d(channels, 2 * channels, 2 * ratio, stride=ratio)]
            channels *= 2
        if config.lstm:
            layers.append(ResidualLSTM(channels, config.lstm))
        layers += [nn.ELU(), CausalConv1d(channels, config.dimension, config.last_kernel_size)]
        self.model = nn.Sequential(*layers)

    def forward(self, wave: Tensor) -> Tensor:
        out: Tensor = self.model(wave)
        return out


class SEANetDecoder(nn.Module):
    """Latents `[B, D, S]` to wave `[B, 1, S * hop]`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        channels = config.n_filters * 2 ** len(config.ratios)
        layers: list[nn.Module] = [CausalConv1d(config.dimension, channels, config.kernel_size)]
        if config.lstm:
            layers.append(ResidualLSTM(channels, config.lstm))
        for ratio in config.ratios:
            layers += [nn.ELU(), CausalConvTranspose1d(channels, channels // 2, 2 * ratio, stride=ratio)]
            channels //= 2
            layers += _residual_stack(config, channels, config.residual_layers_of_decoder)
        layers += [nn.ELU(), CausalConv1d(channels, config.channels, config.last_kernel_size)]
        self.model = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        out: Tensor = self.model(latents)
        return out


@torch.no_grad()
def init_for_training(network: nn.Module, gain: float = 1.3) -> None:
    """Variance-preserving weights with identity shortcuts, for training from nothing.

    PyTorch's default shrinks the signal at every layer: through twenty of them it leaves next to no
    waveform and no gradient, and the autoencoder stays silent for thousands of steps.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv1d):
            if ".shortcut." in name and module.in_channels == module.out_channels:
                nn.init.eye_(module.weight[:, :, 0])
            else:
                fan_in = module.in_channels * module.kernel_size[0]
                nn.init.normal_(module.weight, std=gain / math.sqrt(fan_in))
            if ".block.3." in name:
                module.weight.mul_(0.3)
        elif isinstance(module, nn.ConvTranspose1d):
            taps = module.kernel_size[0] / module.stride[0]
            nn.init.normal_(module.weight, std=gain / math.sqrt(module.in_channels * taps))
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
