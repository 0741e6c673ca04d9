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
from binarch.search.skip_dropout import SkipDropout
from binarch.spaces import Bats, Darts, Space


class Mixture(NamedTuple):
    """Weights of all operations: (edges, operations) for the normal and for the reduction cell."""

    normal: Tensor
    reduce: Tensor


@final
class Supernet(nn.Module):
    r"""Cells whose every edge computes :math:`\sum_o \operatorname{softmax}(\alpha / \tau)_o \, o(x)`.

    :math:`\alpha` (``alphas_normal``, ``alphas_reduce``: edges x operations) is shared by all cells of a kind and
    starts as 0.001 times a standard normal. The temperature :math:`\tau` sharpens the mixture where it is below 1
    (BATS); DARTS has 1. The rest is DARTS' search network: reductions at a third and two thirds of the depth, a
    3C stem, a linear classifier.

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
        fast: bool = True,
    ) -> None:
        super().__init__()
        space.check(channels)
        if temperature <= 0:
            raise UserError(f"temperature: {temperature} is not possible; use a number above 0")
        if cells < 3:
            raise UserError(f"cells: {cells} is too few for two reductions; use 3 or more")
        self.temperature = temperature
        self.skip_dropout = SkipDropout()
        self.operations = operations
        self.alphas_normal = nn.Parameter(
            1e-3 * torch.randn(len(operations["normal"].names), operations["normal"].width)
        )
        self.alphas_reduce = nn.Parameter(
            1e-3 * torch.randn(len(operations["reduce"].names), operations["reduce"].width)
        )
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
            )
            self.cells.append(fast_cell(cell, space) if fast else cell)
            inputs, halve_first = (inputs[1], channels * kind.nodes), reduction
        self.classifier = nn.Linear(inputs[1], classes)

    def set_skip_dropout(self, probability: float) -> None:
        """Set the probability with which single numbers of skips are dropped in training."""
        self.skip_dropout.probability = probability

    def mixture(self) -> Mixture:
        """The current weights, softmax with temperature."""
        return Mixture(
            torch.softmax(self.alphas_normal / self.temperature, 1),
            torch.softmax(self.alphas_reduce / self.temperature, 1),
        )

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The alphas, for an optimizer of their own."""
        return [self.alphas_normal, self.alphas_reduce]

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
        """Logits (N, classes); ``mixture`` replaces the softmax weights, e.g. by a derived genotype's."""
        weights = self.mixture() if mixture is None else mixture
        s0 = s1 = self.stem(images)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, weights.reduce if cell.reduction else weights.normal)
        return self.classifier(s1.mean((2, 3)))


def fast_cell(cell: NaiveCell, space: Space) -> nn.Module:
    """The fast form of a cell of ``space``; a space that has none keeps the naive one."""
    if isinstance(space, Bats):
        return fast_bats_cell(cell)
    return fast_darts_cell(cell) if isinstance(space, Darts) else cell
