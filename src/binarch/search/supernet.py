"""The supernet: a network whose cells mix all candidate operations by architecture parameters."""

from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from binarch.errors import UserError
from binarch.models.cell_network import reductions
from binarch.search.fast_bats import fast_bats_cell
from binarch.search.fast_darts import fast_darts_cell
from binarch.search.naive import NaiveCell
from binarch.search.operations import EdgeOperations
from binarch.search.partial import check_width, edge_softmax
from binarch.search.skip_dropout import SkipDropout
from binarch.spaces import Bats, Darts, Space


class Mixture(NamedTuple):
    """Weights of all operations: (edges, operations) for the normal and for the reduction cell.

    The weights of one edge's operations sum to the weight of the edge.
    """

    normal: Tensor
    reduce: Tensor


@final
class Supernet(nn.Module):
    r"""Cells whose every edge computes :math:`\sum_o \operatorname{softmax}(\alpha / \tau)_o \, o(x)`.

    :math:`\alpha` (``alphas_normal``, ``alphas_reduce``: edges x operations) is shared by all cells of a kind and
    starts as 0.001 times a standard normal. The temperature :math:`\tau` sharpens the mixture where it is below 1
    (BATS); DARTS has 1. The rest is DARTS' search network: reductions at a third and two thirds of the depth, a
    3C stem, a linear classifier.

    ``partial`` above 1 mixes one K-th of the channels and weighs edges by a softmax of ``edge_alphas_normal`` and
    ``edge_alphas_reduce`` (edges), which start like the alphas and learn with them (PC-DARTS, see ``partial``);
    ``auxiliary_skip`` adds a skip to every mixed operation (DARTS-minus, see ``auxiliary_skip``).

    ``fast=True`` evaluates the same parameters through shared, concatenated operations (the identities are told in
    ``fast_bats`` and ``fast_darts``); the numbers are those of the naive form.
    """

    def __init__(
        self,
        space: Space,
        operations: dict[str, EdgeOperations],
        *,
        channels: int,
        cells: int,
        classes: int,
        temperature: float = 1.0,
        partial: int = 1,
        auxiliary_skip: bool = False,
        fast: bool = True,
    ) -> None:
        super().__init__()
        check_width(space, channels, partial)
        if temperature <= 0:
            raise UserError(f"temperature: {temperature} is not possible; use a number above 0")
        if cells < 3:
            raise UserError(f"cells: {cells} is too few for two reductions; use 3 or more")
        self.temperature = temperature
        self.skip_dropout = SkipDropout()
        self.auxiliary_weight = 0.0
        self.operations = operations
        normal, reduce = operations["normal"], operations["reduce"]
        self.alphas_normal = _alphas(len(normal.names), normal.width)
        self.alphas_reduce = _alphas(len(reduce.names), reduce.width)
        self.edge_alphas_normal = _alphas(len(normal.names)) if partial > 1 else None
        self.edge_alphas_reduce = _alphas(len(reduce.names)) if partial > 1 else None
        self.stem = space.stem(3 * channels, search=True)
        inputs, halve_first = (3 * channels, 3 * channels), False
        self.cells = nn.ModuleList()
        for index in range(cells):
            reduction = index in reductions(cells)
            channels = 2 * channels if reduction else channels
            kind = operations["reduce" if reduction else "normal"]
            cell = NaiveCell(
                space,
                kind,
                inputs,
                channels,
                reduction=reduction,
                halve_first=halve_first,
                skip_dropout=self.skip_dropout,
                partial=partial,
                auxiliary_skip=auxiliary_skip,
            )
            self.cells.append(fast_cell(cell, space) if fast else cell)
            inputs, halve_first = (inputs[1], channels * kind.nodes), reduction
        self.classifier = nn.Linear(inputs[1], classes)

    def set_skip_dropout(self, probability: float) -> None:
        """Set the probability with which single numbers of skips are dropped in training."""
        self.skip_dropout.probability = probability

    def set_auxiliary_skip(self, weight: float) -> None:
        """Set the weight of the auxiliary skips, where there are any."""
        self.auxiliary_weight = weight

    def shares(self) -> Mixture:
        """How each edge divides between its operations: softmax with temperature, summing to 1."""
        return Mixture(
            torch.softmax(self.alphas_normal / self.temperature, 1),
            torch.softmax(self.alphas_reduce / self.temperature, 1),
        )

    def edge_weights(self) -> tuple[Tensor, Tensor] | None:
        """What each edge contributes to its node, (edges,) for both kinds of cells; None where all count alike."""
        if self.edge_alphas_normal is None or self.edge_alphas_reduce is None:
            return None
        return (
            edge_softmax(self.edge_alphas_normal, self.operations["normal"].nodes),
            edge_softmax(self.edge_alphas_reduce, self.operations["reduce"].nodes),
        )

    def mixture(self) -> Mixture:
        """The current weights: the shares, times the edges' weights where they have some."""
        shares, edges = self.shares(), self.edge_weights()
        if edges is None:
            return shares
        return Mixture(shares.normal * edges[0].unsqueeze(1), shares.reduce * edges[1].unsqueeze(1))

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The alphas of operations and, where there are some, of edges, for an optimizer of their own."""
        found = (self.alphas_normal, self.alphas_reduce, self.edge_alphas_normal, self.edge_alphas_reduce)
        return [parameter for parameter in found if parameter is not None]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything but the alphas."""
        alphas = {id(parameter) for parameter in self.architecture_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in alphas]

    def learn(self, what: Literal["alphas", "weights", "both"]) -> None:
        """Make one of the two kinds of parameters ask for gradients, the other not; or both."""
        for parameters, kind in (
            (self.architecture_parameters(), "alphas"),
            (self.weight_parameters(), "weights"),
        ):
            for parameter in parameters:
                parameter.requires_grad_(what in (kind, "both"))

    def forward(self, images: Tensor, mixture: Mixture | None = None) -> Tensor:
        """Logits (N, classes); ``mixture`` replaces the weights, e.g. by a derived genotype's, and auxiliary skips."""
        weights = self.mixture() if mixture is None else mixture
        auxiliary = self.auxiliary_weight if mixture is None else 0.0
        s0 = s1 = self.stem(images)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, weights.reduce if cell.reduction else weights.normal, auxiliary)
        return self.classifier(s1.mean((2, 3)))


def _alphas(*shape: int) -> nn.Parameter:
    return nn.Parameter(1e-3 * torch.randn(*shape))


def fast_cell(cell: NaiveCell, space: Space) -> nn.Module:
    """The fast form of a cell of ``space``; a space that has none keeps the naive one."""
    if isinstance(space, Bats):
        return fast_bats_cell(cell)
    return fast_darts_cell(cell) if isinstance(space, Darts) else cell
