"""Decoder layers with memory, on `[rows, frames, channels]` and one State dataclass each.

Every convolution is one matrix product over all frames of all rows. On a CPU that is faster for short chunks than
the library's convolutions and LSTM, which rearrange their weights on every call, and it makes a sample's bits
independent of chunk length and batch: with packed weights (`model.quantization`) or MKL a row of an fp32 product is
the same for every row count that is a multiple of four, if there are at least eight columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sled_tts.model.codec.networks import CausalConv1d, CausalConvTranspose1d, ResidualBlock, ResidualLSTM
from sled_tts.model.quantization import Precision, pack

_ROW_MULTIPLE = 4
_COLUMN_MULTIPLE = 8


def elu(x: Tensor) -> Tensor:
    """ELU whose result does not depend on an element's place in memory, unlike `F.elu`'s in a vector's tail."""
    return torch.maximum(x, x.clamp(max=0).expm1_())


class _Product:
    """`x [..., K] -> [..., N]` by `matrix [K, N]`, with rows padded to a multiple of four."""

    def __init__(self, matrix: Tensor) -> None:
        self.kernel, self.columns = pack(matrix.t().contiguous(), None, Precision.FP32), matrix.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        rows = flat.shape[0]
        missing = -rows % _ROW_MULTIPLE
        out = self.kernel(F.pad(flat, (0, 0, 0, missing)) if missing else flat)
        return out[:rows].view(*x.shape[:-1], self.columns)


def _bias(inner: nn.Conv1d | nn.ConvTranspose1d) -> Tensor:
    return inner.weight.new_zeros(inner.out_channels) if inner.bias is None else inner.bias.detach()


@dataclass
class ConvState:
    """The last `context` inputs of each slot, `[slots, context, C_in]`."""

    context: Tensor


@dataclass
class ConvTransposeState:
    """What each slot's last input still owes to the next outputs, `[slots, stride, C_out]`."""

    owed: Tensor


@dataclass
class LSTMState:
    """Hidden and cell state, each `[layers, slots, C]`."""

    hidden: Tensor
    cell: Tensor


class ConvStep:
    """A causal stride-1 convolution; `[R, S, C_in] -> [R, S, C_out]`."""

    def __init__(self, layer: CausalConv1d) -> None:
        inner = layer.inner
        self.c_in, self.c_out = inner.in_channels, inner.out_channels
        self.dilation, self.context = inner.dilation[0], layer.left_context
        taps = inner.weight.detach().permute(2, 1, 0).reshape(-1, self.c_out)
        self.product = _Product(F.pad(taps, (0, -self.c_out % _COLUMN_MULTIPLE)))
        self.bias = _bias(inner)

    def allocate(self, slots: int) -> ConvState:
        return ConvState(self.bias.new_zeros(slots, self.context, self.c_in))

    def pointwise(self, x: Tensor) -> Tensor:
        """The convolution where there is no context to carry, without its bias."""
        return self.product(x)[..., : self.c_out]

    def run(self, x: Tensor, state: ConvState, slots: Tensor, fresh: bool) -> Tensor:
        if self.context == 0:
            return self.pointwise(x).add_(self.bias)
        padded = torch.cat([self._reflected(x) if fresh else state.context[slots], x], dim=1)
        state.context[slots] = padded[:, -self.context :]
        windows = padded.unfold(1, self.context + 1, 1)[..., :: self.dilation].transpose(2, 3).flatten(2)
        return self.pointwise(windows).add_(self.bias)

    def _reflected(self, x: Tensor) -> Tensor:
        """What offline decode puts before frame 0 (`networks.reflect_pad`)."""
        missing = max(0, self.context + 1 - x.shape[1])
        return F.pad(x, (0, 0, 0, missing))[:, 1 : self.context + 1].flip(1)


class ConvTransposeStep:
    """A transposed convolution with kernel `2 * stride`; `[R, S, C_in] -> [R, S * stride, C_out]`."""

    def __init__(self, layer: CausalConvTranspose1d) -> None:
        inner = layer.inner
        self.stride, self.c_out = layer.stride, inner.out_channels
        if layer.overlap != layer.stride:
            raise ValueError(f"the kernel must be twice the stride, got {inner.kernel_size[0]} and {layer.stride}")
        matrix = inner.weight.detach().permute(0, 2, 1).flatten(1)
        self.columns = matrix.shape[1]
        self.product = _Product(F.pad(matrix, (0, -self.columns % _COLUMN_MULTIPLE)))
        self.bias = _bias(inner)

    def allocate(self, slots: int) -> ConvTransposeState:
        return ConvTransposeState(self.bias.new_zeros(slots, self.stride, self.c_out))

    def run(self, x: Tensor, state: ConvTransposeState, slots: Tensor, fresh: bool) -> Tensor:
        rows, frames, _ = x.shape
        made = self.product(x)[..., : self.columns].view(rows, frames, 2, self.stride, self.c_out)
        before = torch.zeros_like(made[:, 0, 1]) if fresh else state.owed[slots]
        out = made[:, :, 0] + torch.cat([before[:, None], made[:, :-1, 1]], dim=1)
        state.owed[slots] = made[:, -1, 1]
        return out.add_(self.bias).view(rows, frames * self.stride, self.c_out)


class LSTMStep:
    """A residual LSTM; `[R, S, C] -> [R, S, C]`."""

    def __init__(self, layer: ResidualLSTM) -> None:
        self.lstm = layer.lstm
        parameters = [
            [getattr(layer.lstm, f"{name}_l{i}").detach() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            for i in range(layer.lstm.num_layers)
        ]
        self.weights = [(_Product(p[0].t()), _Product(p[1].t()), p[2] + p[3]) for p in parameters]

    def allocate(self, slots: int) -> LSTMState:
        zeros = self.weights[0][2].new_zeros(self.lstm.num_layers, slots, self.lstm.hidden_size)
        return LSTMState(zeros, zeros.clone())

    def run(self, x: Tensor, state: LSTMState, slots: Tensor, fresh: bool) -> Tensor:
        hidden, cell = state.hidden[:, slots], state.cell[:, slots]
        if fresh:
            hidden, cell = torch.zeros_like(hidden), torch.zeros_like(cell)
        if x.device.type == "cpu":
            out, hidden, cell = self._stepwise(x, hidden, cell)
        else:
            steps, (hidden, cell) = self.lstm(x.transpose(0, 1).contiguous(), (hidden, cell))
            out = steps.transpose(0, 1)
        state.hidden[:, slots], state.cell[:, slots] = hidden, cell
        return out + x

    def _stepwise(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = x.shape[0]
        fill = -rows % _ROW_MULTIPLE
        last_hidden, last_cell = [], []
        for layer, (from_input, from_hidden, bias) in enumerate(self.weights):
            driven = F.pad(from_input(x).add_(bias), (0, 0, 0, 0, 0, fill))
            h, c = F.pad(hidden[layer], (0, 0, 0, fill)), F.pad(cell[layer], (0, 0, 0, fill))
            outputs = []
            for gates in driven.unbind(1):
                i, f, g, o = from_hidden(h).add_(gates).chunk(4, dim=1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                outputs.append(h)
            x = torch.stack(outputs, dim=1)[:rows]
            last_hidden.append(h[:rows])
            last_cell.append(c[:rows])
        return x, torch.stack(last_hidden), torch.stack(last_cell)


class ResidualStep:
    """ELU, dilated convolution, ELU, 1x1 convolution, beside a 1x1 shortcut; `[R, S, C] -> [R, S, C]`."""

    def __init__(self, block: ResidualBlock) -> None:
        first, last = block.block[1], block.block[3]
        assert isinstance(first, CausalConv1d)
        assert isinstance(last, CausalConv1d)
        self.first, self.last, self.shortcut = ConvStep(first), ConvStep(last), ConvStep(block.shortcut)
        self.bias = self.last.bias + self.shortcut.bias

    def allocate(self, slots: int) -> ConvState:
        return self.first.allocate(slots)

    def run(self, x: Tensor, state: ConvState, slots: Tensor, fresh: bool) -> Tensor:
        inside = elu(self.first.run(elu(x), state, slots, fresh))
        return self.shortcut.pointwise(x).add_(self.last.pointwise(inside)).add_(self.bias)
