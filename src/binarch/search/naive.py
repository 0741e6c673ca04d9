"""The supernet's cell, edge by edge and operation by operation: the tested truth."""

from typing import final

import torch
from torch import Tensor, nn

from binarch.search.operations import EdgeOperations
from binarch.search.skip_dropout import SkipDropout
from binarch.spaces import Space


@final
class MixedOperation(nn.Module):
    """All candidate operations of one edge: ``sum_o w_o * o(x)``; skips at stride 1 pass through ``skip_dropout``."""

    def __init__(
        self, space: Space, names: tuple[str, ...], channels: int, stride: int, skip_dropout: SkipDropout
    ) -> None:
        super().__init__()
        self.skip_dropout = skip_dropout
        self.operations = nn.ModuleList(space.primitive(name, channels, stride, search=True) for name in names)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Mix the operations' outputs by ``weights`` (one number per operation)."""
        total: Tensor | None = None
        for weight, operation in zip(weights, self.operations, strict=True):
            skip = isinstance(operation, nn.Identity)
            term = weight * (self.skip_dropout(x) if skip else operation(x))
            total = term if total is None else total + term
        assert total is not None
        return total


@final
class NaiveCell(nn.Module):
    """A cell in which every node sees every earlier state through a mixed operation.

    ``forward(s0, s1, weights)``: ``weights`` is (edges, operations); edges are ordered by node, then by source.
    The output concatenates all nodes.
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
    ) -> None:
        super().__init__()
        self.operations = operations
        self.skip_dropout = SkipDropout() if skip_dropout is None else skip_dropout
        self.reduction = reduction
        self.channels = channels
        self.preprocess0 = space.preprocess(inputs[0], channels, halve=halve_first, search=True)
        self.preprocess1 = space.preprocess(inputs[1], channels, halve=False, search=True)
        self.edges = nn.ModuleList(
            MixedOperation(space, names, channels, 2 if reduction and source < 2 else 1, self.skip_dropout)
            for (source, _), names in zip(operations.ends, operations.names, strict=True)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        """Compute the nodes one after the other."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(2, self.operations.nodes + 2):
            incoming = [edge for edge, (_, target) in enumerate(self.operations.ends) if target == node]
            outputs = [self.edges[e](states[self.operations.ends[e][0]], weights[e]) for e in incoming]
            states.append(torch.stack(outputs).sum(0))
        return torch.cat(states[2:], 1)
