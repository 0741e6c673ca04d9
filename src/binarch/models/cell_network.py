"""The network that a genotype describes."""

from typing import Literal, final

import torch
from torch import Tensor, nn

from binarch.errors import UserError
from binarch.models.scheduled_drop_path import ScheduledDropPath
from binarch.nn import DropPath
from binarch.spaces import Genotype, Space
from binarch.spaces.bats import Residual
from binarch.spaces.genotype import Cell

#: ``cifar``: one convolution at full resolution; ``half``: one with stride 2; ``imagenet``: three with stride 2.
Stem = Literal["cifar", "half", "imagenet"]


def reductions(cells: int) -> tuple[int, int]:
    """Indices of the two cells that halve the resolution: a third and two thirds of the depth."""
    return cells // 3, 2 * cells // 3


@final
class CellModule(nn.Module):
    """One cell of a network: (c_{k-2}, c_{k-1}) -> concatenated states."""

    def __init__(
        self,
        cell: Cell,
        space: Space,
        inputs: tuple[int, int],
        channels: int,
        *,
        reduction: bool,
        halve_first: bool,
        drop_path: DropPath,
    ) -> None:
        super().__init__()
        self.preprocess0 = space.preprocess(inputs[0], channels, halve=halve_first)
        self.preprocess1 = space.preprocess(inputs[1], channels, halve=False)
        self.sources = [edge.source for edge in cell.edges]
        self.concat = cell.concat
        self.operations = nn.ModuleList(
            space.primitive(edge.primitive, channels, 2 if reduction and edge.source < 2 else 1) for edge in cell.edges
        )
        self.drop_path = drop_path

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Compute the nodes one after the other, each the sum of two edges."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for i in range(0, len(self.sources), 2):
            first, second = (self._edge(e, states[self.sources[e]]) for e in (i, i + 1))
            states.append(first + second)
        return torch.cat([states[state] for state in self.concat], 1)

    def _edge(self, index: int, x: Tensor) -> Tensor:
        operation = self.operations[index]
        if isinstance(operation, nn.Identity):
            return x
        if isinstance(operation, Residual):  # a shortcut is never dropped, the one inside an operation neither
            return x + self.drop_path(operation.body(x))
        return self.drop_path(operation(x))


@final
class CellNetwork(ScheduledDropPath):
    """A stack of cells between a real stem and a real classifier.

    ``channels`` is the width C of the first cells; it doubles at both reductions. The CIFAR stem has 3C channels and
    full resolution, the half stem 3C and half of it, so that all cells take a quarter of the time; the ImageNet stems
    bring 224 pixels to 56 and 28. Images are (N, 3, H, W) float; logits are
    (N, classes). With ``auxiliary`` a second classifier sits behind the second reduction; in training mode the
    network then returns ``(logits, auxiliary logits)``. Published parameter counts leave it out.
    """

    def __init__(
        self,
        genotype: Genotype,
        space: Space,
        *,
        channels: int,
        cells: int,
        classes: int,
        stem: Stem = "cifar",
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        space.check(channels)
        if cells < 3:
            raise UserError(f"cells: {cells} is too few for two reductions; use 3 or more")
        self.drop_path = DropPath()
        if stem != "imagenet":
            self.stem0, self.stem1 = space.stem(3 * channels, halve=stem == "half"), None
            inputs, halve_first = (3 * channels, 3 * channels), False
        else:
            self.stem0, self.stem1 = space.imagenet_stem(channels)
            inputs, halve_first = (channels, channels), True
        self.cells = nn.ModuleList()
        self.auxiliary: nn.Module | None = None
        self.auxiliary_at = reductions(cells)[1]
        for index in range(cells):
            reduction = index in reductions(cells)
            channels = 2 * channels if reduction else channels
            cell = genotype.reduce if reduction else genotype.normal
            self.cells.append(
                CellModule(
                    cell,
                    space,
                    inputs,
                    channels,
                    reduction=reduction,
                    halve_first=halve_first,
                    drop_path=self.drop_path,
                )
            )
            inputs, halve_first = (inputs[1], channels * len(cell.concat)), reduction
            if auxiliary and index == self.auxiliary_at:
                stride = 2 if stem == "imagenet" else 3
                self.auxiliary = space.auxiliary(inputs[1], classes, pool_stride=stride)
        self.classifier = nn.Linear(inputs[1], classes)

    def set_drop_path(self, probability: float) -> None:
        """Set the probability with which an edge of any cell is dropped in training."""
        self.drop_path.probability = probability

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classify images."""
        s0 = self.stem0(images)
        s1 = s0 if self.stem1 is None else self.stem1(s0)
        auxiliary = None
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if self.auxiliary is not None and self.training and index == self.auxiliary_at:
                auxiliary = self.auxiliary(s1)
        logits = self.classifier(s1.mean((2, 3)))
        return logits if auxiliary is None else (logits, auxiliary)
