"""The fan of the DARTS space.

Beside what :mod:`binarch.search.fast` tells, these hold exactly:

1. ReLU(x) is the same for all operations that leave a source.
2. The depthwise convolutions of one kind are one with several filters per channel, the pointwise ones behind them one
   grouped convolution.
3. The mixture weight of an operation is the affine weight of its last batch norm.
"""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.nn import shifted
from binarch.search.auxiliary_skip import AUXILIARY_SKIP
from binarch.search.fast import Carried, Fan, FastCell, Placement
from binarch.search.naive import NaiveCell

_CONVOLUTIONS = ("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "dil_conv_3x3", "dil_conv_5x5")


def fast_darts_cell(cell: NaiveCell) -> FastCell:
    """The fast form of a cell of the DARTS space."""
    return FastCell(cell, _DartsFan, passing=("skip_connect",))


def _normalise(x: Tensor, weight: Tensor | None = None) -> Tensor:
    return functional.batch_norm(x, None, None, weight, training=True)


def _stack(convs: list[nn.Conv2d]) -> nn.Parameter:
    """Filters of several edges, (edge, out, in, k, k) flattened to (edge * out, in, k, k)."""
    return nn.Parameter(torch.cat([conv.weight.detach() for conv in convs]))


@final
class _Separable(nn.Module):
    """One separable convolution (depthwise, pointwise) of several edges; the ReLU before it is the caller's.

    ``spread`` is the first one behind the source: its input holds C channels and feeds every edge. Later ones hold
    C channels per edge.
    """

    def __init__(self, depthwise: list[nn.Conv2d], pointwise: list[nn.Conv2d], *, spread: bool) -> None:
        super().__init__()
        first = depthwise[0]
        self.stride, self.padding, self.dilation = first.stride, first.padding, first.dilation
        self.edges, self.channels, self.spread = len(depthwise), first.in_channels, spread
        self.depthwise, self.pointwise = _stack(depthwise), _stack(pointwise)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C or edges * C, H, W) -> (N, edges * C, H', W')."""
        copies = x.repeat(1, self.edges, 1, 1) if self.spread and self.edges > 1 else x
        maps = functional.conv2d(
            copies, self.depthwise, None, self.stride, self.padding, self.dilation, self.edges * self.channels
        )
        return functional.conv2d(maps, self.pointwise, groups=self.edges)


@final
class _Convolutions(nn.Module):
    """One kind of separable convolution, single (dilated) or double, on the edges that carry it."""

    def __init__(self, modules: list[Any], placement: Placement) -> None:
        super().__init__()
        self.placement = placement
        self.parts = nn.ModuleList(
            _Separable([m[i + 1] for m in modules], [m[i + 2] for m in modules], spread=i == 0)
            for i in range(0, len(modules[0]), 4)
        )
        self.channels = modules[0][1].in_channels

    def forward(self, rectified: Tensor, weights: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, edges, C, H', W')."""
        maps = self.parts[0](rectified)
        for part in list(self.parts)[1:]:
            maps = part(functional.relu(_normalise(maps)))
        share = self.placement.share(weights)
        maps = _normalise(maps, share.repeat_interleave(self.channels))
        return self.placement.spread(maps.unflatten(1, (len(share), -1)))


@final
class _Reductions(nn.Module):
    """The factorized reductions (skips with stride 2) on the edges that carry them."""

    def __init__(self, modules: list[Any], placement: Placement) -> None:
        super().__init__()
        self.placement = placement
        self.first = _stack([m[1].first for m in modules])
        self.second = _stack([m[1].second for m in modules])

    def forward(self, rectified: Tensor, weights: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, edges, C, H', W')."""
        share = self.placement.share(weights)
        halves = [
            functional.conv2d(x, filters, stride=2).unflatten(1, (len(share), -1))
            for x, filters in ((rectified, self.first), (shifted(rectified), self.second))
        ]
        maps = torch.cat(halves, 2)
        maps = _normalise(maps.flatten(1, 2), share.repeat_interleave(maps.shape[2]))
        return self.placement.spread(maps.unflatten(1, (len(share), -1)))


@final
class _DartsFan(Fan):
    """Separable and dilated convolutions and, at stride 2, factorized reductions, all of one rectified map."""

    def __init__(self, names: list[tuple[str, ...]], modules: list[list[nn.Module]], stride: int) -> None:
        super().__init__()
        self.kinds = nn.ModuleDict()
        reductions = ("skip_connect", AUXILIARY_SKIP) if stride == 2 else ()
        for name in _CONVOLUTIONS + reductions:
            placement = Placement(name, names)
            if placement.slots:
                found = [modules[slot][column] for slot, column in zip(placement.slots, placement.columns, strict=True)]
                kind = _Reductions if name in reductions else _Convolutions
                self.kinds[name] = kind(found, placement)

    def forward(self, x: Tensor, weights: Tensor) -> Carried:
        """Rectify the source once and convolve it."""
        rectified = functional.relu(x)
        total: Tensor | None = None
        for kind in self.kinds.values():
            maps = kind(rectified, weights)
            total = maps if total is None else total + maps
        return Carried(None, total)
