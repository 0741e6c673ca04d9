"""The search space of NASNet (Zoph et al., CVPR 2018): five nodes, thirteen operations, real-valued."""

from typing import ClassVar, final

from torch import nn

from binarch.errors import UserError
from binarch.nn import Binarization
from binarch.spaces.base import Space
from binarch.spaces.darts import Darts
from binarch.spaces.parts import pool, relu_conv, separable
from binarch.spaces.rules import CellRules


@final
class Nasnet(Space):
    """Primitives of NASNet; a convolution is ReLU, convolution, batch norm.

    ===========================  ==================================================================
    ``conv_1x1``, ``conv_3x3``   full convolutions
    ``conv_1x3_3x1``             1 x 3, then 3 x 1; each with its ReLU and BN
    ``conv_7x1_1x7``             1 x 7, then 7 x 1; each with its ReLU and BN (DARTS has one of both)
    ``dil_conv_3x3``             full 3 x 3 convolution with dilation 2 (DARTS' is separable)
    ``sep_conv_kxk``             twice: ReLU, depthwise k x k, 1 x 1, BN; k = 3, 5, 7
    ``skip_connect``             identity; with stride 2: ReLU, 1 x 1 convolution, BN
    ``*_pool_kxk``               average 3 x 3 (without padding), maximum 3 x 3, 5 x 5, 7 x 7
    ===========================  ==================================================================

    A node may read one state twice, and the nodes that no other node reads make a cell's output. Nodes add their two
    edges: the space of the paper has concatenation too, which no published cell uses. Around the cells (stems, 1 x 1
    convolutions in front of a cell, auxiliary head) networks are those of the darts space; NASNet-A's own network is
    ``nasnet-a`` of the catalogue.

    Gradient strategies need a supernet in which every node reads all earlier states. They therefore derive two
    *different* edges per node, and all nodes make the output, as DARTS does.
    """

    name: ClassVar[str] = "nasnet"
    description: ClassVar[str] = "thirteen operations, five nodes, unread nodes as output, real-valued (NASNet, 2018)"
    rules: ClassVar[CellRules] = CellRules(
        (
            "max_pool_3x3",
            "max_pool_5x5",
            "max_pool_7x7",
            "avg_pool_3x3",
            "skip_connect",
            "sep_conv_3x3",
            "sep_conv_5x5",
            "sep_conv_7x7",
            "dil_conv_3x3",
            "conv_1x1",
            "conv_3x3",
            "conv_1x3_3x1",
            "conv_7x1_1x7",
        ),
        nodes=5,
        repeats=True,
        loose_ends=True,
    )
    primitives: ClassVar[tuple[str, ...]] = rules.candidates

    def __init__(self, binarization: Binarization) -> None:
        if binarization.binarize != "none":
            raise UserError(
                f"binarize: {binarization.binarize!r} is not possible in the nasnet space (a sign after ReLU keeps "
                "nothing); use --binarize none, or --space bats"
            )
        self.binarization = binarization
        self._around = Darts(binarization)

    def check(self, channels: int) -> None:
        """Widths must be even and 4 or more, as in the darts space."""
        self._around.check(channels)

    def part(self, k: int) -> Space:
        """The space itself: its operations are alike at every width."""
        return self

    def primitive(self, name: str, channels: int, stride: int, *, search: bool = False) -> nn.Module:
        """Build the primitive called ``name``."""
        self.require(name)

        def conv(height: int, width: int, strides: tuple[int, int], dilation: int = 1) -> list[nn.Module]:
            return relu_conv(channels, channels, (height, width), strides, dilation=dilation, search=search)

        kind, _, size = name.rpartition("_")
        side, both = int(size[0]) if size[0].isdigit() else 0, (stride, stride)
        match kind:
            case "sep_conv":
                first = separable(channels, channels, side, stride, search=search)
                return nn.Sequential(*first, *separable(channels, channels, side, 1, search=search))
            case "dil_conv":
                return nn.Sequential(*conv(side, side, both, dilation=2))
            case "max_pool" | "avg_pool":
                return pool(name, channels, stride, search=search)
            case "conv":
                return nn.Sequential(*conv(side, side, both))
            case "conv_1x3":
                return nn.Sequential(*conv(1, 3, (1, stride)), *conv(3, 1, (stride, 1)))
            case "conv_7x1":
                return nn.Sequential(*conv(1, 7, (1, stride)), *conv(7, 1, (stride, 1)))
            case _:
                return nn.Identity() if stride == 1 else nn.Sequential(*conv(1, 1, both))

    def preprocess(self, inputs: int, channels: int, *, halve: bool, search: bool = False) -> nn.Module:
        """As in the darts space."""
        return self._around.preprocess(inputs, channels, halve=halve, search=search)

    def stem(self, channels: int, *, search: bool = False, halve: bool = False) -> nn.Module:
        """As in the darts space."""
        return self._around.stem(channels, search=search, halve=halve)

    def imagenet_stem(self, channels: int) -> tuple[nn.Module, nn.Module]:
        """As in the darts space."""
        return self._around.imagenet_stem(channels)

    def auxiliary(self, inputs: int, classes: int, *, pool_stride: int) -> nn.Module:
        """As in the darts space."""
        return self._around.auxiliary(inputs, classes, pool_stride=pool_stride)
