"""The supernet's cell of the BATS space, with the work that candidates share done once.

What holds exactly in search mode (batch norm without affine parameters, statistics of the batch):

1. BN(x), sign(BN(x)) and the pooled, normalised maps depend on the source and the stride only: once per source
   instead of once per edge and operation.
2. The convolutions of one kind that leave one source are one grouped convolution with concatenated filters.
3. PReLU is positively homogeneous and mixture weights are not negative: w PReLU(W * b) = PReLU((w W) * b). So the
   mixture weight, like the learned output scale, multiplies a filter and not a map.
4. The shuffle is a permutation: it moves behind the sum over edges and operations, once per node.
5. The inner residuals "x +" of all convolutions of an edge, and its skip, are one number times x.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.nn import QuantConv2d, batch_norm, shifted
from binarch.search.naive import NaiveCell
from binarch.spaces.bats import SHUFFLE_GROUPS, Residual

_CONVOLUTIONS = ("sep_conv", "dil_conv")


@final
class _AddScaled(torch.autograd.Function):
    """``base + sum_i w_i m_i`` over maps of one shape, without a stack of maps.

    Backward: ``base`` gets g, ``m_i`` gets w_i g, ``w_i`` gets <g, m_i>.
    """

    @staticmethod
    def forward(ctx: Any, base: Tensor, weights: Tensor, *maps: Tensor) -> Tensor:
        ctx.save_for_backward(weights, *maps)
        total = base.clone()
        for weight, term in zip(weights, maps, strict=True):
            total.addcmul_(weight, term)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        weights, *maps = ctx.saved_tensors
        products = torch.stack([(grad * term).sum() for term in maps])
        return grad, products, *(grad * weight for weight in weights)


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
class _Where:
    """Which of a source's edges carry a primitive, and where it stands among each edge's candidates."""

    def __init__(self, name: str, names: list[tuple[str, ...]]) -> None:
        self.slots = [slot for slot, ops in enumerate(names) if name in ops]
        self.columns = [names[slot].index(name) for slot in self.slots]
        self.edges = len(names)

    def share(self, weights: Tensor) -> Tensor:
        """The primitive's mixture weights, one per edge that carries it."""
        return weights[self.slots, self.columns]

    def spread(self, maps: Tensor, dim: int) -> Tensor:
        """Put the carrying edges' maps among zeros for the others, along ``dim``."""
        if len(self.slots) == self.edges:
            return maps
        shape = [self.edges if d == dim % maps.dim() else size for d, size in enumerate(maps.shape)]
        return maps.new_zeros(shape).index_copy(dim, torch.tensor(self.slots, device=maps.device), maps)


@final
class _Convolutions(nn.Module):
    """One kind of grouped convolution, with its PReLU, on the edges of a source that carry it."""

    def __init__(self, bodies: list[nn.Module], where: _Where) -> None:
        super().__init__()
        self.where = where
        self.conv = _StackedConv([body[1] for body in bodies])
        self.slope = _stack([body[2].weight for body in bodies], self.conv.groups)

    def forward(self, code: Tensor, weights: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, H', W', groups, edges, C / groups), not yet shuffled."""
        maps = functional.prelu(self.conv(code, self.where.share(weights)), self.slope)
        maps = maps.permute(0, 2, 3, 1).unflatten(3, (self.conv.groups, self.conv.edges, -1))
        return self.where.spread(maps, -2)


@final
class _Reductions(nn.Module):
    """The factorized reductions (``skip_connect`` with stride 2) on the edges of a source that carry it."""

    def __init__(self, bodies: list[nn.Module], where: _Where) -> None:
        super().__init__()
        self.where = where
        self.first = _StackedConv([body[1].first for body in bodies])
        self.second = _StackedConv([body[1].second for body in bodies])
        self.slope = _stack([body[2].weight for body in bodies], 1)

    def forward(self, code: Tensor, weights: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, edges, C, H', W')."""
        share = self.where.share(weights)
        halves = [self.first(code, share), self.second(shifted(code), share)]
        both = torch.cat([half.unflatten(1, (len(share), -1)) for half in halves], 2)
        maps = functional.prelu(both.flatten(1, 2), self.slope).unflatten(1, (len(share), -1))
        return self.where.spread(maps, 1)


@final
class _Fan(nn.Module):
    """All edges that leave one source, up to the nodes' sums."""

    def __init__(self, cell: NaiveCell, source: int) -> None:
        super().__init__()
        self.edges = [e for e, (start, _) in enumerate(cell.operations.ends) if start == source]
        self.stride = 2 if cell.reduction and source < 2 else 1
        self.names = [cell.operations.names[edge] for edge in self.edges]
        self.kinds = nn.ModuleDict()
        self.reductions: _Reductions | None = None
        self.quantize: nn.Module = nn.Identity()
        for name in sorted({name for ops in self.names for name in ops}):
            where = _Where(name, self.names)
            modules = [
                cell.edges[self.edges[slot]].operations[column]
                for slot, column in zip(where.slots, where.columns, strict=True)
            ]
            bodies = [module.body if isinstance(module, Residual) else module for module in modules]
            if name.startswith(_CONVOLUTIONS):
                self.kinds[name] = _Convolutions(bodies, where)
                self.quantize = bodies[0][1].activation_quantizer
            elif name == "skip_connect" and self.stride == 2:
                self.reductions = _Reductions(bodies, where)
                self.quantize = bodies[0][1].first.activation_quantizer
        channels = cell.channels
        self.norm, self.max_norm, self.avg_norm = (batch_norm(channels, search=True) for _ in range(3))
        self._adds_x = self._mask(lambda name: name == "skip_connect" or name.startswith(_CONVOLUTIONS))
        self._adds_max = self._mask(lambda name: name == "max_pool_3x3")
        self._adds_avg = self._mask(lambda name: name == "avg_pool_3x3")

    def _mask(self, test: Callable[[str], bool]) -> Tensor:
        return torch.tensor([[float(test(name)) for name in ops] for ops in self.names])

    def terms(self, x: Tensor, weights: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What is added without a shuffle: (one number per edge, the map that it multiplies)."""
        terms = []
        if self.stride == 1 and self._adds_x.any():
            terms.append(((weights * self._adds_x).sum(1), x))
        if self._adds_max.any():
            pooled = self.max_norm(functional.max_pool2d(x, 3, self.stride, 1))
            terms.append(((weights * self._adds_max).sum(1), pooled))
        if self._adds_avg.any():
            pooled = self.avg_norm(functional.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False))
            terms.append(((weights * self._adds_avg).sum(1), pooled))
        return terms

    def forward(self, x: Tensor, weights: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The convolutions' sum, (N, H', W', groups, edges, C / groups), and the reductions (N, edges, C, H', W')."""
        if not self.kinds and self.reductions is None:
            return None, None
        code = self.quantize(self.norm(x))
        grouped: Tensor | None = None
        for kind in self.kinds.values():
            maps = kind(code, weights)
            grouped = maps if grouped is None else grouped + maps
        return grouped, None if self.reductions is None else self.reductions(code, weights)


@final
class FastBatsCell(nn.Module):
    """A :class:`~binarch.search.naive.NaiveCell` of the BATS space, rearranged: same parameters, same numbers."""

    def __init__(self, cell: NaiveCell) -> None:
        super().__init__()
        self.reduction, self.nodes = cell.reduction, cell.operations.nodes
        self.preprocess0, self.preprocess1 = cell.preprocess0, cell.preprocess1
        self.fans = nn.ModuleList(_Fan(cell, source) for source in range(self.nodes + 1))

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        """Visit the sources in order; a node is complete when the state before it has been visited."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        grouped: Tensor | None = None
        terms: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(self.nodes)]
        plain: list[list[Tensor]] = [[] for _ in range(self.nodes)]
        for source, fan in enumerate(self.fans):
            x, own = states[source], weights[fan.edges]
            first = max(source - 1, 0)
            maps, reductions = fan(x, own)
            grouped = _add(grouped, maps)
            for coefficients, term in fan.terms(x, own):
                for node, coefficient in enumerate(coefficients, start=first):
                    terms[node].append((coefficient, term))
            if reductions is not None:
                for node, term in enumerate(reductions.unbind(1), start=first):
                    plain[node].append(term)
            if source > 0:
                done, grouped = _take(grouped)
                states.append(_node(done, plain[first], terms[first]))
        return torch.cat(states[2:], 1)


def _add(total: Tensor | None, term: Tensor | None) -> Tensor | None:
    if total is None or term is None:
        return term if total is None else total
    return term + total


def _take(grouped: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The first target's share, shuffled, and the rest."""
    if grouped is None:
        return None, None
    share, rest = grouped.split([1, grouped.shape[4] - 1], 4)
    last = share.flatten(3).unflatten(3, (SHUFFLE_GROUPS, -1)).transpose(3, 4).flatten(3)
    return last.permute(0, 3, 1, 2), rest


def _node(shuffled: Tensor | None, plain: list[Tensor], terms: list[tuple[Tensor, Tensor]]) -> Tensor:
    base = shuffled
    for term in plain:
        base = term if base is None else base + term
    if not terms:
        assert base is not None
        return base
    if base is None:
        base = torch.zeros_like(terms[0][1])
    coefficients, maps = zip(*terms, strict=True)
    return _AddScaled.apply(base, torch.stack(coefficients), *maps)
