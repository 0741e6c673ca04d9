"""Small layers that the spaces share."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.nn.phases import pixels
from binarch.nn.quant_layer import QuantLayer


def batch_norm(channels: int, *, search: bool) -> nn.BatchNorm2d:
    """Batch normalization as a network (affine, running statistics) or as a supernet needs it.

    In a supernet the candidates must be comparable, so nothing is learned here (DARTS), and statistics are those
    of the batch, always: an evaluation then cannot disturb training, and no buffer goes stale when the mixture
    of operations changes. DARTS keeps running statistics instead.
    """
    return nn.BatchNorm2d(channels, affine=not search, track_running_stats=not search)


@final
class ChannelBias(nn.Module):
    """y = x + b, with one learned b per channel that starts at 0: before a sign, ReActNet's learned threshold."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Add to (N, C, H, W)."""
        return x + self.bias.view(1, -1, 1, 1)


@final
class ChannelShuffle(nn.Module):
    """Interleave ``groups`` blocks of channels: output channel ``i * groups + g`` is input ``g * C/groups + i``.

    For 12 channels in 4 groups the order of the inputs is 0 3 6 9 1 4 7 10 2 5 8 11. The gradient is the inverse
    permutation. The memory format of the input is kept.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Permute the channels of (N, C, H, W)."""
        n, c, h, w = x.shape
        if x.is_contiguous(memory_format=torch.channels_last):
            last = x.permute(0, 2, 3, 1).view(n, h, w, self.groups, c // self.groups)
            return last.transpose(3, 4).reshape(n, h, w, c).permute(0, 3, 1, 2)
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


@final
class ShiftedPair(nn.Module):
    """Halve the resolution without losing every second pixel: two stride-2 paths, one shifted, concatenated.

    ``first`` sees the pixels at even rows and columns, ``second`` those at odd ones; each yields half of the
    channels. Both are bias-free 1 x 1 convolutions. On odd sizes the second half lacks a row and a column: zeros stand
    there, as if its input had been padded with zeros that add nothing. On even sizes this equals DARTS'
    FactorizedReduce.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H/2), ceil(W/2))."""
        return self._join(x, self.first, self.second)

    def from_signs(self, signs: Tensor) -> Tensor:
        """The output, given the signs of an input, of two layers that take them (see :class:`QuantLayer`)."""
        assert isinstance(self.first, QuantLayer)
        assert isinstance(self.second, QuantLayer)
        return self._join(signs, self.first.from_signs, self.second.from_signs)

    @staticmethod
    def _join(x: Tensor, first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor]) -> Tensor:
        even = first(x)
        # a map of one row or column would leave nothing to convolve
        odd = second(pixels(x, 1)) if min(x.shape[-2:]) > 1 else 0 * second(x)
        missing = even.shape[-1] - odd.shape[-1], even.shape[-2] - odd.shape[-2]
        return torch.cat([even, functional.pad(odd, (0, missing[0], 0, missing[1]))], 1)


def shifted(x: Tensor) -> Tensor:
    """Move ``x`` one row up and one column left; zeros enter where H or W is odd."""
    h, w = x.shape[-2:]
    return functional.pad(x, (0, w % 2, 0, h % 2))[..., 1:, 1:]


@final
class Zero(nn.Module):
    """The primitive ``none``: zeros, at half the resolution where stride is 2; no gradient reaches its input."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros of the output's shape."""
        return torch.zeros_like(x[..., :: self.stride, :: self.stride])


@final
class DropPath(nn.Module):
    """Drop whole edges, per sample, during training; scale the survivors by 1 / (1 - p).

    For x of shape (N, ...): ``y_n = x_n * b_n / (1 - p)`` with ``b_n`` Bernoulli of mean 1 - p, so E[y] = x.
    In evaluation, or with p = 0, y = x.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples of one edge's output."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        mask = torch.empty(x.shape[0], *[1] * (x.dim() - 1), device=x.device, dtype=x.dtype).bernoulli_(keep)
        return x * (mask / keep)
