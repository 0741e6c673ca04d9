"""Modules that more than one space is made of."""

from typing import final

from torch import Tensor, nn

from binarch.nn import batch_norm


def pool(kind: str, channels: int, stride: int, *, search: bool) -> nn.Module:
    """A 3 x 3 pool; in a supernet a batch norm follows, so that the candidates' outputs are comparable."""
    layer: nn.Module
    if kind == "max_pool":
        layer = nn.MaxPool2d(3, stride, padding=1)
    else:
        layer = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    return nn.Sequential(layer, batch_norm(channels, search=True)) if search else layer


@final
class SpatialMean(nn.Module):
    """(N, C, H, W) -> (N, C): the mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over height and width."""
        return x.mean((2, 3))
