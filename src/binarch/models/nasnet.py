"""NASNet-A (Zoph et al., CVPR 2018) and AmoebaNet-A (Real et al., AAAI 2019) for small images, as published.

The DARTS code has transcriptions of both cells, which are the genotypes ``nasnet`` and ``amoebanet``; the networks here
follow the authors' own code and have the parameter counts of their papers. Cells are written in our convention, source
0 for c_{k-2} and 1 for c_{k-1} (the authors have it the other way round). What differs from a network of the darts
space:

- ``concat`` takes more states, also the prepared c_{k-2}, and states that nodes read.
- c_{k-2} is left as it is where its shape is the cell's. The first cell gets the bare stem there, so its operations
  bring that to their width themselves: separable convolutions anyway, pools by a 1 x 1 convolution and BN behind them,
  the identity by ReLU, 1 x 1 convolution and BN; in the output, by 1 x 1 convolution and BN.
- The 1 x 7, 7 x 1 convolutions of AmoebaNet have a quarter of the width, between 1 x 1 convolutions.
- A ReLU stands in front of the last pool and of the auxiliary head, which sits before the second reduction.
- Edges are dropped the more often, the deeper they are.

What differs from the authors' code: with stride 2, windows on maps of even size lie one pixel earlier (TensorFlow pads
more behind than before). AmoebaNet's public code is for ImageNet; here its batch norms have NASNet's momentum and
epsilon, its stem is padded, and its drop-path grows with the depth.
"""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn

from binarch.errors import UserError
from binarch.models.resnet import head
from binarch.models.scheduled_drop_path import ScheduledDropPath
from binarch.nn import DropPath
from binarch.spaces import Genotype
from binarch.spaces.genotype import Cell
from binarch.spaces.parts import factorized_reduce, pool, relu_conv, separable
from binarch.spaces.published import read_cell

NASNET_A = Genotype(
    read_cell("sep5:1 sep3:0, sep5:0 sep3:0, avg3:1 skip:0, avg3:0 avg3:0, sep3:1 skip:1", (0, 2, 3, 4, 5, 6)),
    read_cell("sep5:1 sep7:0, max3:1 sep7:0, avg3:1 sep5:0, skip:3 avg3:2, sep3:2 max3:1", (3, 4, 5, 6)),
)

AMOEBANET_A = Genotype(
    read_cell("avg3:1 max3:1, sep3:0 skip:0, skip:1 avg3:0, sep3:1 sep5:2, avg3:5 sep3:1", (0, 3, 4, 6)),
    read_cell("sep3:0 avg3:1, max3:1 sep7:2, max3:0 max3:1, sep3:4 7x1:1, avg3:0 sep7:1", (2, 3, 4, 5, 6)),
)


def operation(name: str, inputs: int, channels: int, stride: int) -> nn.Module:
    """The primitive ``name`` as NASNet and AmoebaNet have it: (N, inputs, H, W) -> (N, channels, H/stride, W/stride).

    The padding, and so the size on odd maps, is that of the spaces: ceil(H / stride).
    """
    kind, _, size = name.rpartition("_")
    both = (stride, stride)
    match kind:
        case "sep_conv":
            first = separable(inputs, channels, int(size[0]), stride)
            return nn.Sequential(*first, *separable(channels, channels, int(size[0]), 1))
        case "max_pool" | "avg_pool":
            layer = pool(name, inputs, stride, search=False)
            return layer if inputs == channels else nn.Sequential(layer, *_project(inputs, channels))
        case "conv_7x1":
            quarter = max(channels // 4, 1)
            return nn.Sequential(
                *relu_conv(inputs, quarter, (1, 1)),
                *relu_conv(quarter, quarter, (1, 7), (1, stride)),
                *relu_conv(quarter, quarter, (7, 1), (stride, 1)),
                *relu_conv(quarter, channels, (1, 1)),
            )
        case _ if name == "skip_connect":
            plain = stride == 1 and inputs == channels
            return nn.Identity() if plain else nn.Sequential(*relu_conv(inputs, channels, (1, 1), both))
    raise UserError(f"primitive: {name!r} is in no cell of NASNet-A or AmoebaNet-A")


def _project(inputs: int, channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, channels, 1, bias=False), nn.BatchNorm2d(channels)


@final
class ScaffoldCell(nn.Module):
    """One cell: (c_{k-2}, c_{k-1}) -> concatenated states.

    ``inputs`` are the channels of both; ``halve_first`` says that c_{k-2} has twice the cell's resolution, ``bare``
    that it is taken as it is.
    """

    def __init__(
        self, cell: Cell, inputs: tuple[int, int], channels: int, *, reduction: bool, halve_first: bool, bare: bool
    ) -> None:
        super().__init__()
        self.preprocess0: nn.Module = nn.Identity()
        if halve_first:
            self.preprocess0 = factorized_reduce(inputs[0], channels)
        elif inputs[0] != channels and not bare:
            self.preprocess0 = nn.Sequential(*relu_conv(inputs[0], channels, (1, 1)))
        self.preprocess1 = nn.Sequential(*relu_conv(inputs[1], channels, (1, 1)))
        widths = (inputs[0] if bare else channels, *[channels] * (len(cell.nodes) + 1))
        self.sources = [edge.source for edge in cell.edges]
        self.operations = nn.ModuleList(
            operation(edge.primitive, widths[edge.source], channels, 2 if reduction and edge.source < 2 else 1)
            for edge in cell.edges
        )
        self.dropped = [edge.primitive != "skip_connect" for edge in cell.edges]
        self.drop_path = DropPath()
        self.concat = cell.concat
        self.outputs = nn.ModuleList(
            nn.Identity() if widths[state] == channels else nn.Sequential(*_project(widths[state], channels))
            for state in cell.concat
        )

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Compute the nodes one after the other, each the sum of two edges."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for i in range(0, len(self.sources), 2):
            first, second = (self._edge(e, states[self.sources[e]]) for e in (i, i + 1))
            states.append(first + second)
        return torch.cat([output(states[at]) for at, output in zip(self.concat, self.outputs, strict=True)], 1)

    def _edge(self, index: int, x: Tensor) -> Tensor:
        y = self.operations[index](x)
        return self.drop_path(y) if self.dropped[index] else y


@final
class ScaffoldNetwork(ScheduledDropPath):
    """The network of NASNet: N normal cells, a reduction, N, a reduction, N; then ReLU, mean, linear layer.

    ``width`` is the number F of filters in the first cells, doubled at each reduction; the stem, a 3 x 3 convolution
    and BN, has ``stem`` channels; ``repeats`` is N. Images (N, 3, H, W) of any size from 8 to logits (N, classes).

    With ``auxiliary`` a second classifier reads the last cell before the second reduction: ReLU, mean of 5 x 5 windows
    with stride 3, 1 x 1 convolution to 128, BN, ReLU, a convolution over the whole map to 768, BN, ReLU, linear. In
    training the network then returns (logits, auxiliary logits). It is built for images of ``image_size``, 9 or more.

    Filters and linear layers start from normal numbers of variance 2 / fan-out, cut off at two deviations.
    """

    def __init__(
        self,
        genotype: Genotype,
        *,
        width: int,
        stem: int,
        classes: int,
        repeats: int = 6,
        auxiliary: bool = False,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        if repeats < 1:
            raise UserError(f"repeats: {repeats} is not possible; use 1 or more")
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem))
        self.cells = nn.ModuleList()
        self.auxiliary: nn.Module | None = None
        self.auxiliary_at = 2 * repeats
        inputs, halve_first = (stem, stem), False
        for index, reduction in enumerate(_reductions(repeats)):
            width = 2 * width if reduction else width
            cell = genotype.reduce if reduction else genotype.normal
            self.cells.append(
                ScaffoldCell(cell, inputs, width, reduction=reduction, halve_first=halve_first, bare=index == 0)
            )
            inputs, halve_first = (inputs[1], width * len(cell.concat)), reduction
            if auxiliary and index == self.auxiliary_at:
                self.auxiliary = _auxiliary(inputs[1], classes, image_size)
        self.classifier = nn.Sequential(nn.ReLU(), *head(inputs[1], classes))
        self.apply(_start)

    def set_drop_path(self, probability: float) -> None:
        """Drop edges of cell k (from 1) of n with probability k / n of this one."""
        for index, cell in enumerate(self.cells, start=1):
            assert isinstance(cell, ScaffoldCell)
            cell.drop_path.probability = probability * index / len(self.cells)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classify images."""
        s0 = s1 = self.stem(images)
        auxiliary = None
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if self.auxiliary is not None and self.training and index == self.auxiliary_at:
                auxiliary = self.auxiliary(s1)
        logits = self.classifier(s1)
        return logits if auxiliary is None else (logits, auxiliary)


def _reductions(repeats: int) -> Iterator[bool]:
    """Of every cell, whether it is a reduction."""
    for part in range(3):
        yield from [True] * (part > 0)
        yield from [False] * repeats


def _auxiliary(inputs: int, classes: int, image_size: int) -> nn.Module:
    side = ((image_size + 1) // 2 - 5) // 3 + 1
    if side < 1:
        raise UserError(
            f"auxiliary: images of {image_size} pixels are too small for the auxiliary head; it needs 9 "
            "(use --no-auxiliary or a larger --image-size)"
        )
    return nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d(5, 3),
        *_project(inputs, 128),
        nn.ReLU(),
        nn.Conv2d(128, 768, side, bias=False),
        nn.BatchNorm2d(768),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(768, classes),
    )


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        outputs = module.weight[:, 0].numel() // (module.groups if isinstance(module, nn.Conv2d) else 1)
        deviation = (1.3 * 2 / outputs) ** 0.5  # cutting off leaves a variance of 2 / outputs
        nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
