"""The supernet's cell, edge by edge and operation by operation: the tested truth."""

from typing import final

import torch
from torch import Tensor, nn

from binarch.search.operations import EdgeOperations
from binarch.search.partial import bypass, join_channels, split_channels
from binarch.search.skip_dropout import SkipDropout
from binarch.spaces import Space


@final
class MixedOperation(nn.Module):
    """All candidate operations of one edge: ``sum_o w_o * o(x)``; skips at stride 1 pass through ``skip_dropout``.

    The weights sum to that of the edge, w, which is 1 unless edges are weighted (PC-DARTS). With ``auxiliary_skip``
    (DARTS-minus) one more skip joins, whose weight is no candidate's: ``w * auxiliary * skip(x)``.
    """

    def __init__(
        self,
        space: Space,
        names: tuple[str, ...],
        channels: int,
        stride: int,
        skip_dropout: SkipDropout,
        *,
        auxiliary_skip: bool = False,
    ) -> None:
        super().__init__()
        self.skip_dropout = skip_dropout
        self.operations = nn.ModuleList(space.primitive(name, channels, stride, search=True) for name in names)
        self.auxiliary_skip = space.primitive("skip_connect", channels, stride, search=True) if auxiliary_skip else None

    def forward(self, x: Tensor, weights: Tensor, auxiliary: float = 0.0) -> Tensor:
        """Mix the operations' outputs by ``weights`` (one number per operation)."""
        total: Tensor | None = None
        for weight, operation in zip(weights, self.operations, strict=True):
            skip = isinstance(operation, nn.Identity)
            term = weight * (self.skip_dropout(x) if skip else operation(x))
            total = term if total is None else total + term
        assert total is not None
        if self.auxiliary_skip is not None:
            total = total + weights.sum() * auxiliary * self.auxiliary_skip(x)
        return total


@final
class NaiveCell(nn.Module):
    """A cell in which every node sees every earlier state through a mixed operation.

    ``forward(s0, s1, weights, auxiliary)``: ``weights`` is (edges, operations); edges are ordered by node, then by
    source; ``auxiliary`` is the weight of auxiliary skips, where there are any. The output concatenates all nodes.

    With ``partial`` above 1 (PC-DARTS) an edge of weight w, the sum of its operations' weights, mixes only the first
    1/K of the channels: ``shuffle(concat(mixed(x[:, :C/K]), w * bypass(x[:, C/K:])))``.
    """

    def __init__(
        self,
        space: Space,
        operations: EdgeOperations,
        inputs: tuple[int, int],
        channels: int,
        *,
        reduction: bool,
        halve_first: bool,
        skip_dropout: SkipDropout | None = None,
        partial: int = 1,
        auxiliary_skip: bool = False,
    ) -> None:
        super().__init__()
        self.operations = operations
        self.partial = partial
        self.skip_dropout = SkipDropout() if skip_dropout is None else skip_dropout
        self.reduction = reduction
        self.mixed_channels = channels // partial
        self.strides = [2 if reduction and source < 2 else 1 for source, _ in operations.ends]
        self.preprocess0 = space.preprocess(inputs[0], channels, halve=halve_first, search=True)
        self.preprocess1 = space.preprocess(inputs[1], channels, halve=False, search=True)
        part = space.part(partial)
        self.edges = nn.ModuleList(
            MixedOperation(part, names, self.mixed_channels, stride, self.skip_dropout, auxiliary_skip=auxiliary_skip)
            for stride, names in zip(self.strides, operations.names, strict=True)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, auxiliary: float = 0.0) -> Tensor:
        """Compute the nodes one after the other."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(2, self.operations.nodes + 2):
            incoming = [edge for edge, (_, target) in enumerate(self.operations.ends) if target == node]
            outputs = [self._edge(e, states[self.operations.ends[e][0]], weights[e], auxiliary) for e in incoming]
            states.append(torch.stack(outputs).sum(0))
        return torch.cat(states[2:], 1)

    def _edge(self, edge: int, x: Tensor, weights: Tensor, auxiliary: float) -> Tensor:
        if self.partial == 1:
            return self.edges[edge](x, weights, auxiliary)
        first, rest = split_channels(x, self.partial)
        mixed = self.edges[edge](first, weights, auxiliary)
        return join_channels(mixed, weights.sum() * bypass(rest, self.strides[edge]), self.partial)
