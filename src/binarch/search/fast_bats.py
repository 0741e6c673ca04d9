"""The fan of the BATS space.

Beside what :mod:`binarch.search.fast` tells, these hold exactly:

1. BN(x) and sign(BN(x)) are the same for all convolutions that leave a source.
2. PReLU is positively homogeneous and mixture weights are not negative: w PReLU(W * b) = PReLU((w W) * b). So the
   mixture weight, like the learned output scale, multiplies a filter and not a map.
3. The shuffle is a permutation: it moves behind the sum over edges and operations, once per node.
"""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.nn import QuantConv2d, batch_norm, prelu, shifted
from binarch.search.fast import Carried, Fan, FastCell, Placement
from binarch.search.naive import NaiveCell
from binarch.spaces.bats import SHUFFLE_GROUPS, Residual

_CONVOLUTIONS = ("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "dil_conv_3x3", "dil_conv_5x5")


def fast_bats_cell(cell: NaiveCell) -> FastCell:
    """The fast form of a cell of the BATS space."""
    return FastCell(cell, _BatsFan, passing=("skip_connect", *_CONVOLUTIONS), shuffle_groups=SHUFFLE_GROUPS)


@final
class _StackedConv(nn.Module):
    """The same convolution of several edges as one: filters ordered (group, edge, filter of the group).

    The input is not repeated: each group of input channels feeds the filters of all edges.
    """

    def __init__(self, convs: list[QuantConv2d]) -> None:
        super().__init__()
        first = convs[0]
        self.stride, self.padding, self.dilation = first.stride, first.padding, first.dilation
        self.groups, self.edges = first.groups, len(convs)
        self.weight_quantizer = first.weight_quantizer
        self.weight = _stack([conv.weight for conv in convs], self.groups)
        scales = [conv.scale for conv in convs if conv.scale is not None]
        self.scale = _stack(scales, self.groups) if scales else None

    def forward(self, code: Tensor, share: Tensor) -> Tensor:
        """Convolve the quantized input; ``share`` is one mixture weight per edge."""
        factor = share.view(1, -1, 1).expand(self.groups, -1, len(self.weight) // (self.groups * self.edges))
        factor = factor.reshape(-1)
        if self.scale is not None:
            factor = factor * self.scale
        filters = self.weight_quantizer(self.weight) * factor.view(-1, 1, 1, 1)
        return functional.conv2d(code, filters, None, self.stride, self.padding, self.dilation, self.groups)


def _stack(tensors: list[Tensor], groups: int) -> nn.Parameter:
    """Parameters of several edges, first dimension C each, as one of (group, edge, C / groups)."""
    return nn.Parameter(torch.stack([t.detach().unflatten(0, (groups, -1)) for t in tensors], 1).flatten(0, 2))


@final
class _Convolutions(nn.Module):
    """One kind of grouped convolution, with its PReLU, on the edges that carry it."""

    def __init__(self, bodies: list[nn.Sequential], placement: Placement) -> None:
        super().__init__()
        self.placement = placement
        self.conv = _StackedConv([body[1] for body in bodies])
        self.slope = _stack([body[2].weight for body in bodies], self.conv.groups)

    def forward(self, code: Tensor, weights: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, edges, H', W', groups, C / groups), not yet shuffled."""
        maps = prelu(self.conv(code, self.placement.share(weights)), self.slope)
        maps = maps.permute(0, 2, 3, 1).unflatten(3, (self.conv.groups, self.conv.edges, -1))
        return self.placement.spread(maps.movedim(4, 1))


@final
class _Reductions(nn.Module):
    """The factorized reductions (``skip_connect`` with stride 2) on the edges that carry it."""

    def __init__(self, bodies: list[nn.Sequential], placement: Placement) -> None:
        super().__init__()
        self.placement = placement
        self.first = _StackedConv([body[1].first for body in bodies])
        self.second = _StackedConv([body[1].second for body in bodies])
        self.slope = _stack([body[2].weight for body in bodies], 1)

    def forward(self, code: Tensor, weights: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, edges, C, H', W')."""
        share = self.placement.share(weights)
        halves = [self.first(code, share), self.second(shifted(code), share)]
        both = torch.cat([half.unflatten(1, (len(share), -1)) for half in halves], 2)
        return self.placement.spread(prelu(both.flatten(1, 2), self.slope).unflatten(1, (len(share), -1)))


@final
class _BatsFan(Fan):
    """Grouped convolutions and, at stride 2, factorized reductions, all of one binarized map."""

    def __init__(self, names: list[tuple[str, ...]], modules: list[nn.ModuleList], stride: int) -> None:
        super().__init__()
        self.kinds = nn.ModuleDict()
        self.reductions: _Reductions | None = None
        self.norm: nn.Module = nn.Identity()
        self.quantizer: nn.Module = nn.Identity()
        for name in _CONVOLUTIONS + (("skip_connect",) if stride == 2 else ()):
            placement = Placement(name, names)
            if not placement.slots:
                continue
            found = [modules[slot][column] for slot, column in zip(placement.slots, placement.columns, strict=True)]
            bodies = [module.body if isinstance(module, Residual) else module for module in found]
            if name == "skip_connect":
                self.reductions = _Reductions(bodies, placement)
                conv = bodies[0][1].first
            else:
                self.kinds[name] = _Convolutions(bodies, placement)
                conv = bodies[0][1]
            self.norm = batch_norm(bodies[0][0].num_features, search=True)
            self.quantizer = conv.activation_quantizer

    def forward(self, x: Tensor, weights: Tensor) -> Carried:
        """Binarize the source once and convolve it."""
        code = self.quantizer(self.norm(x))
        shuffled: Tensor | None = None
        for kind in self.kinds.values():
            maps = kind(code, weights)
            shuffled = maps if shuffled is None else shuffled + maps
        return Carried(shuffled, None if self.reductions is None else self.reductions(code, weights))
