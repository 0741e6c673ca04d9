"""The supernet's cell with the work that candidates share done once: what both spaces have in common.

What holds exactly in search mode (batch norm without affine parameters, statistics of the batch):

1. What depends on the source and the stride only, such as the pooled and normalised maps, is computed once per source
   instead of once per edge and operation.
2. The convolutions of one kind that leave one source for several targets are one convolution.
3. Everything that passes a map through unchanged (a skip, an inner residual) is one number times the map.
4. Bypass and shuffle of partial channels are linear: the bypass is done once per source, the shuffle once per node.
5. An auxiliary skip is one more candidate whose weight is given.

A *fan* is all that leaves one source. The cell visits the sources in order and adds what their fans carry; a node is
complete when the state before it has been visited. Parameters are those of the naive cell, rearranged.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from binarch.nn import batch_norm
from binarch.search.auxiliary_skip import AUXILIARY_SKIP
from binarch.search.naive import NaiveCell
from binarch.search.partial import bypass, join_channels, split_channels
from binarch.search.skip_dropout import SkipDropout


@final
@dataclass(frozen=True)
class Carried:
    """What one fan carries to its targets, in order.

    ``shuffled`` (N, H, W, groups, targets, C / groups) is still to be shuffled; ``plain`` is (N, targets, C, H, W). The
    targets stand where the convolutions leave them, so that taking one apart copies nothing.
    """

    shuffled: Tensor | None
    plain: Tensor | None

    def plus(self, other: "Carried") -> "Carried":
        """Add what another fan carries to the same targets."""
        return Carried(add(self.shuffled, other.shuffled), add(self.plain, other.plain))

    def split(self) -> tuple["Carried", "Carried"]:
        """The first target's part, and the rest."""
        first, rest = zip(_split(self.shuffled, 4), _split(self.plain, 1), strict=True)
        return Carried(*first), Carried(*rest)


def add(total: Tensor | None, term: Tensor | None) -> Tensor | None:
    """The sum of what is there."""
    if total is None or term is None:
        return term if total is None else total
    return term + total


def _split(stacked: Tensor | None, dim: int) -> tuple[Tensor | None, Tensor | None]:
    if stacked is None:
        return None, None
    first, rest = stacked.split([1, stacked.shape[dim] - 1], dim)
    return first.squeeze(dim), rest


def _shuffle(maps: Tensor, shuffle_groups: int) -> Tensor:
    """Shuffle the channels of (N, H, W, groups, C / groups) on the way to (N, C, H, W), in one copy if possible."""
    if maps.shape[3] % shuffle_groups == 0:
        return maps.unflatten(3, (shuffle_groups, -1)).permute(0, 1, 2, 4, 5, 3).flatten(3).permute(0, 3, 1, 2)
    return maps.flatten(3).unflatten(3, (shuffle_groups, -1)).transpose(3, 4).flatten(3).permute(0, 3, 1, 2)


@final
class Placement(nn.Module):
    """Which of a source's edges carry a primitive (``slots``), and where it stands among each one's candidates.

    Both are kept on the device as well: an index that is made in each step makes the step wait for it.
    """

    slot_index: Tensor
    column_index: Tensor

    def __init__(self, name: str, names: list[tuple[str, ...]]) -> None:
        super().__init__()
        self.slots = [slot for slot, ops in enumerate(names) if name in ops]
        self.columns = [names[slot].index(name) for slot in self.slots]
        self.edges = len(names)
        self.register_buffer("slot_index", torch.tensor(self.slots, dtype=torch.long), persistent=False)
        self.register_buffer("column_index", torch.tensor(self.columns, dtype=torch.long), persistent=False)

    def share(self, weights: Tensor) -> Tensor:
        """The primitive's mixture weights, one per edge that carries it, out of (edges, candidates)."""
        return weights[self.slot_index, self.column_index]

    def spread(self, maps: Tensor) -> Tensor:
        """Place the carrying edges' maps, stacked along dimension 1, among zeros for the other edges."""
        if len(self.slots) == self.edges:
            return maps
        everywhere = maps.new_zeros((maps.shape[0], self.edges, *maps.shape[2:]))
        return everywhere.index_copy(1, self.slot_index, maps)


@final
class _Direct(nn.Module):
    """What leaves a source without filters: the map itself and its pools, each once."""

    def __init__(
        self,
        names: list[tuple[str, ...]],
        channels: int,
        stride: int,
        passing: tuple[str, ...],
        skip_dropout: SkipDropout,
    ) -> None:
        super().__init__()
        self.stride, self.skip_dropout = stride, skip_dropout
        self.max_norm, self.avg_norm = batch_norm(channels, search=True), batch_norm(channels, search=True)
        skips = ("skip_connect",) if stride == 1 else ()
        groups = (passing if stride == 1 else (), skips, ("max_pool_3x3",), ("avg_pool_3x3",))
        masks = [[[float(name in group) for name in ops] for ops in names] for group in groups]
        self.present = [any(any(row) for row in mask) for mask in masks]
        self.skipping = [slot for slot, row in enumerate(masks[1]) if any(row)]
        self.masks: Tensor
        self.register_buffer("masks", torch.tensor(masks), persistent=False)

    def forward(self, x: Tensor, weights: Tensor) -> list[tuple[int, Tensor, Tensor]]:
        """(edge, a number, the map that it multiplies), for everything that some edge carries."""
        passed, skips, largest, means = (weights * self.masks).sum(2)
        terms: list[tuple[int, Tensor, Tensor]] = []
        if self.skip_dropout.active and self.skipping:  # what is dropped differs from edge to edge
            passed = passed - skips
            terms += [(slot, skips[slot], self.skip_dropout(x)) for slot in self.skipping]
        if self.present[0]:
            terms += [(slot, number, x) for slot, number in enumerate(passed)]
        if self.present[2]:
            pooled = self.max_norm(functional.max_pool2d(x, 3, self.stride, 1))
            terms += [(slot, number, pooled) for slot, number in enumerate(largest)]
        if self.present[3]:
            pooled = self.avg_norm(functional.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False))
            terms += [(slot, number, pooled) for slot, number in enumerate(means)]
        return terms


class Fan(nn.Module, ABC):
    """The operations with filters that leave one source."""

    @abstractmethod
    def forward(self, x: Tensor, weights: Tensor) -> Carried:
        """Apply them to the source; ``weights`` is (edges of the source, candidates)."""


@final
class _AddScaled(torch.autograd.Function):
    """``base + sum_i w_i m_i`` over maps of one shape, without a stack of maps.

    Backward: ``base`` gets g, ``m_i`` gets w_i g, ``w_i`` gets <g, m_i>.
    """

    @staticmethod
    def forward(ctx: Any, base: Tensor, weights: Tensor, *maps: Tensor) -> Tensor:
        ctx.save_for_backward(weights, *maps)
        total = torch.addcmul(base, weights[0], maps[0])
        for weight, term in zip(weights[1:], maps[1:], strict=True):
            total.addcmul_(weight, term)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, *maps = ctx.saved_tensors
        products = torch.stack([(grad * term).sum() for term in maps]) if ctx.needs_input_grad[1] else None
        return grad, products, *(grad * weight for weight in weights)


@final
class FastCell(nn.Module):
    """A :class:`~binarch.search.naive.NaiveCell`, rearranged: same parameters, same numbers.

    ``fan(names, modules, stride)`` builds a source's fan from the candidates' names and modules on each of its edges;
    ``passing`` names the primitives that let x through at stride 1; ``shuffle_groups`` is the space's channel shuffle.
    """

    def __init__(
        self,
        cell: NaiveCell,
        fan: Callable[[list[tuple[str, ...]], list[list[nn.Module]], int], Fan],
        *,
        passing: tuple[str, ...],
        shuffle_groups: int = 1,
    ) -> None:
        super().__init__()
        self.reduction, self.shuffle_groups, self.partial = cell.reduction, shuffle_groups, cell.partial
        self.preprocess0, self.preprocess1 = cell.preprocess0, cell.preprocess1
        self.nodes = cell.operations.nodes
        ends = cell.operations.ends
        mixed: list[Any] = list(cell.edges)
        self.auxiliary_skip = mixed[0].auxiliary_skip is not None
        extra = (AUXILIARY_SKIP,) if self.auxiliary_skip else ()
        edge_modules = [[*edge.operations, *([edge.auxiliary_skip] if extra else [])] for edge in mixed]
        self.edges = [[e for e, (start, _) in enumerate(ends) if start == source] for source in range(self.nodes + 1)]
        self.fans, self.direct = nn.ModuleList(), nn.ModuleList()
        self.order: Tensor
        self.register_buffer("order", torch.tensor([edge for edges in self.edges for edge in edges]), persistent=False)
        self.strides = [cell.strides[edges[0]] for edges in self.edges]
        for stride, edges in zip(self.strides, self.edges, strict=True):
            names = [(*cell.operations.names[edge], *extra) for edge in edges]
            self.fans.append(fan(names, [edge_modules[edge] for edge in edges], stride))
            self.direct.append(_Direct(names, cell.mixed_channels, stride, (*passing, *extra), cell.skip_dropout))

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, auxiliary: float = 0.0) -> Tensor:
        """Compute the cell; ``weights`` is (edges, operations), ``auxiliary`` the weight of auxiliary skips."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        carried = Carried(None, None)
        terms: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(self.nodes)]
        bypassed: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(self.nodes)]
        of_edges = weights.sum(1)
        if self.auxiliary_skip:
            weights = torch.cat([weights, auxiliary * of_edges.unsqueeze(1)], 1)
        leaving = weights[self.order].split([len(edges) for edges in self.edges])
        for source, (edges, own) in enumerate(zip(self.edges, leaving, strict=True)):
            x = states[source]
            first = max(source - 1, 0)
            if self.partial > 1:
                x, rest = split_channels(x, self.partial)
                rest = bypass(rest, self.strides[source])
                for slot, edge in enumerate(edges):
                    bypassed[first + slot].append((of_edges[edge], rest))
            carried = carried.plus(self.fans[source](x, own))
            for slot, number, term in self.direct[source](x, own):
                terms[first + slot].append((number, term))
            if source > 0:
                done, carried = carried.split()
                node = self._node(done, terms[first])
                if self.partial > 1:
                    node = join_channels(node, _weighted_sum(None, bypassed[first]), self.partial)
                states.append(node)
        return torch.cat(states[2:], 1)

    def _node(self, done: Carried, terms: list[tuple[Tensor, Tensor]]) -> Tensor:
        shuffled = None if done.shuffled is None else _shuffle(done.shuffled, self.shuffle_groups)
        return _weighted_sum(add(done.plain, shuffled), terms)


def _weighted_sum(base: Tensor | None, terms: list[tuple[Tensor, Tensor]]) -> Tensor:
    """``base`` plus every number times its map."""
    if not terms:
        assert base is not None, "an edge carries nothing at all"
        return base
    numbers, maps = zip(*terms, strict=True)
    return _AddScaled.apply(torch.zeros_like(maps[0]) if base is None else base, torch.stack(numbers), *maps)
