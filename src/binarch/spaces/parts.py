"""Modules that more than one space is made of."""

from typing import final

from torch import Tensor, nn

from binarch.nn import ShiftedPair, batch_norm


def pool(name: str, channels: int, stride: int, *, search: bool) -> nn.Module:
    """``max_pool_kxk`` or ``avg_pool_kxk``, the latter without the padding in its mean.

    In a supernet a batch norm follows, so that the candidates' outputs are comparable.
    """
    kind, _, size = name.rpartition("_")
    side = int(size[0])
    layer: nn.Module
    if kind == "max_pool":
        layer = nn.MaxPool2d(side, stride, padding=side // 2)
    else:
        layer = nn.AvgPool2d(side, stride, padding=side // 2, count_include_pad=False)
    return nn.Sequential(layer, batch_norm(channels, search=True)) if search else layer


def separable(
    inputs: int, channels: int, kernel: int, stride: int, *, dilation: int = 1, search: bool = False
) -> list[nn.Module]:
    """ReLU, depthwise k x k convolution, 1 x 1 convolution, BN: (N, inputs, H, W) -> (N, channels, H/s, W/s)."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(inputs, inputs, kernel, stride, padding, dilation, groups=inputs, bias=False),
        nn.Conv2d(inputs, channels, 1, bias=False),
        batch_norm(channels, search=search),
    ]


def relu_conv(
    inputs: int,
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    *,
    dilation: int = 1,
    search: bool = False,
) -> list[nn.Module]:
    """ReLU, convolution, BN; padded, so that only the stride changes the map's size."""
    padding = (dilation * (kernel[0] // 2), dilation * (kernel[1] // 2))
    return [
        nn.ReLU(),
        nn.Conv2d(inputs, channels, kernel, stride, padding, dilation, bias=False),
        batch_norm(channels, search=search),
    ]


def factorized_reduce(inputs: int, channels: int, *, search: bool = False) -> nn.Sequential:
    """ReLU, two shifted 1 x 1 paths of stride 2, BN: (N, inputs, H, W) -> (N, channels, H/2, W/2), channels even."""
    half = channels // 2
    return nn.Sequential(
        nn.ReLU(),
        ShiftedPair(nn.Conv2d(inputs, half, 1, 2, bias=False), nn.Conv2d(inputs, half, 1, 2, bias=False)),
        batch_norm(channels, search=search),
    )


@final
class SpatialMean(nn.Module):
    """(N, C, H, W) -> (N, C): the mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over height and width."""
        return x.mean((2, 3))
