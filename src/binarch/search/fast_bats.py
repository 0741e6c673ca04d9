"""The fan of the BATS space.

Beside what :mod:`binarch.search.fast` tells, these hold exactly:

1. BN(x) and sign(BN(x)) are the same for all convolutions that leave a source.
2. PReLU is positively homogeneous and mixture weights are not negative: w PReLU(W * b) = PReLU((w W) * b). So the
   mixture weight, like the learned output scale, multiplies a filter and not a map.
3. With F = w W and z = F * b the gradient of the mixture weight is <dL/dz, z> / w. While only the alphas learn, no
   filter gradient has to be computed for it.
4. A convolution with dilation 2 never mixes even with odd rows or columns: it is an undilated one on the four phases
   of the map, side by side in the batch. With stride 2 only one phase is asked for, a quarter of the work.
5. The shuffle is a permutation: it moves behind the sum over edges and operations, once per node.
"""

from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from binarch.nn import GroupedProduct, QuantConv2d, batch_norm, merge_phases, prelu, shifted, split_phases
from binarch.search.auxiliary_skip import AUXILIARY_SKIP
from binarch.search.fast import Carried, Fan, FastCell, Placement, add
from binarch.search.naive import NaiveCell
from binarch.spaces.bats import SHUFFLE_GROUPS, Residual

_CONVOLUTIONS = ("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "dil_conv_3x3", "dil_conv_5x5")


def fast_bats_cell(cell: NaiveCell) -> FastCell:
    """The fast form of a cell of the BATS space."""
    return FastCell(cell, _BatsFan, passing=("skip_connect", *_CONVOLUTIONS), shuffle_groups=SHUFFLE_GROUPS)


@final
class _Shared(torch.autograd.Function):
    """z that was computed with the mixture weight in its filters, as a function of that weight (identity 3).

    Forward z; backward dL/dz, and dL/dw_e = <dL/dz, z> / w_e over the channels of edge e.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(z, factor)
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        z, factor = ctx.saved_tensors
        products = (grad * z).sum((0, 2, 3))
        return grad, torch.where(factor == 0, 0.0, products / factor)


@final
class _StackedConv(nn.Module):
    """The same convolution of several edges as one: filters ordered (group, edge, filter of the group).

    The input is not repeated: each group of input channels feeds the filters of all edges. A dilated convolution
    expects the phases of its input (identity 4).
    """

    def __init__(self, convs: list[QuantConv2d]) -> None:
        super().__init__()
        first = convs[0]
        self.dilated = first.dilation == 2
        self.stride = 1 if self.dilated else first.stride
        assert isinstance(first.padding, int)
        self.padding = first.padding // 2 if self.dilated else first.padding
        self.groups, self.edges = first.groups, len(convs)
        self.product = GroupedProduct(first.groups)
        self.weight_quantizer = first.weight_quantizer
        self.weight = _stack([conv.weight for conv in convs], self.groups)
        scales = [conv.scale for conv in convs if conv.scale is not None]
        self.scale = _stack(scales, self.groups) if scales else None

    def forward(self, code: Tensor, share: Tensor) -> Tensor:
        """Convolve the quantized input; ``share`` is one mixture weight per edge."""
        factor = share.view(1, -1, 1).expand(self.groups, -1, len(self.weight) // (self.groups * self.edges))
        factor = factor.reshape(-1)
        codes, scale = self.weight_quantizer.quantize(self.weight)
        own = scale.flatten() if self.scale is None else scale.flatten() * self.scale
        if self.weight_quantizer.bits == 1:  # integer sums first: see QuantConv2d
            return self._convolve(code, codes) * (factor * own).view(1, -1, 1, 1)
        weights_learn = self.weight.requires_grad
        multiplier = own * (factor if weights_learn else factor.detach())
        maps = self._convolve(code, codes * multiplier.view(-1, 1, 1, 1))
        return maps if weights_learn or not factor.requires_grad else _Shared.apply(maps, factor)

    def _convolve(self, code: Tensor, filters: Tensor) -> Tensor:
        maps: Tensor = self.product(code, filters, self.stride, self.padding, 1)
        return maps


def _stack(tensors: Sequence[Tensor], groups: int) -> nn.Parameter:
    """Parameters of several edges, first dimension C each, as one of (group, edge, C / groups)."""
    return nn.Parameter(torch.stack([t.detach().unflatten(0, (groups, -1)) for t in tensors], 1).flatten(0, 2))


@final
class _Convolutions(nn.Module):
    """One kind of grouped convolution, with its PReLU, on the edges that carry it."""

    def __init__(self, bodies: list[Any], placement: Placement) -> None:
        super().__init__()
        self.placement = placement
        self.conv = _StackedConv([body[1] for body in bodies])
        self.slope = _stack([body[2].weight for body in bodies], self.conv.groups)

    def forward(self, code: Tensor, weights: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, groups x edges x filters, H', W'), not yet shuffled."""
        maps = prelu(self.conv(code, self.placement.share(weights)), self.slope)
        if len(self.placement.slots) == self.placement.edges:
            return maps
        apart = maps.unflatten(1, (self.conv.groups, self.conv.edges, -1)).transpose(1, 2)
        return self.placement.spread(apart).transpose(1, 2).flatten(1, 3)


@final
class _Reductions(nn.Module):
    """The factorized reductions (skips with stride 2) on the edges that carry them."""

    def __init__(self, bodies: list[Any], placement: Placement) -> None:
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

    def __init__(self, names: list[tuple[str, ...]], modules: list[list[nn.Module]], stride: int) -> None:
        super().__init__()
        self.stride, self.edges, self.groups = stride, len(names), 1
        self.kinds, self.dilated = nn.ModuleDict(), nn.ModuleDict()
        self.reductions: _Reductions | None = None
        self.auxiliary: _Reductions | None = None
        self.norm: nn.Module = nn.Identity()
        self.quantizer: nn.Module = nn.Identity()
        for name in _CONVOLUTIONS + (("skip_connect", AUXILIARY_SKIP) if stride == 2 else ()):
            placement = Placement(name, names)
            if not placement.slots:
                continue
            found = [modules[slot][column] for slot, column in zip(placement.slots, placement.columns, strict=True)]
            bodies: list[Any] = [module.body if isinstance(module, Residual) else module for module in found]
            if name == "skip_connect":
                self.reductions = _Reductions(bodies, placement)
                conv = bodies[0][1].first
            elif name == AUXILIARY_SKIP:
                self.auxiliary = _Reductions(bodies, placement)
                conv = bodies[0][1].first
            else:
                (self.dilated if name.startswith("dil") else self.kinds)[name] = _Convolutions(bodies, placement)
                conv = bodies[0][1]
                self.groups = conv.groups
            self.norm = batch_norm(bodies[0][0].num_features, search=True)
            self.quantizer = conv.activation_quantizer

    def forward(self, x: Tensor, weights: Tensor) -> Carried:
        """Binarize the source once and convolve it."""
        code = self.quantizer(self.norm(x))
        total = _sum(kind(code, weights) for kind in self.kinds.values())
        if self.dilated:
            apart = code[..., ::2, ::2] if self.stride == 2 else split_phases(code)
            dilated = _sum(kind(apart, weights) for kind in self.dilated.values())
            assert dilated is not None
            total = add(total, dilated if self.stride == 2 else merge_phases(dilated, *code.shape[2:]))
        shuffled: Tensor | None = None
        if total is not None:
            shuffled = total.permute(0, 2, 3, 1).unflatten(3, (self.groups, self.edges, -1))
        halved = _sum(kind(code, weights) for kind in (self.reductions, self.auxiliary) if kind is not None)
        return Carried(shuffled, halved)


def _sum(maps: Iterable[Tensor]) -> Tensor | None:
    total: Tensor | None = None
    for term in maps:
        total = add(total, term)
    return total
